"""Which files of a Delta table a query can need, by partition values and the log's statistics.

delta-rs's table provider takes no filters (seen in 1.6.6 with DataFusion 55): it reads every file.
So a query is planned once over empty stand-ins; the filters that reach a scan of the stand-in tell
which files matter. A file is left out only when no row of it can pass; whatever is not understood
keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from datafusion import DataFrame
from datafusion.expr import Expr

from neuralake.delta import DataFile, Snapshot
from neuralake.delta.bounds import ALL_NULL, Statistics, partition_value

__all__ = ["LoggedRanges", "Ranges", "Scans", "may_match", "scan_filters"]

Ranges = Mapping[str, tuple[Any, Any] | None]
"""Smallest and largest value by column; None if all are null; absent if unknown."""

Scans = Sequence[Sequence[Expr]]
"""The scans of one table, each by the filters that its rows must pass."""

_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_COMPARE: dict[str, Callable[[Any, Any, Any], bool]] = {
    "=": lambda low, high, value: bool(low <= value <= high),
    "<": lambda low, _, value: bool(low < value),
    "<=": lambda low, _, value: bool(low <= value),
    ">": lambda _, high, value: bool(high > value),
    ">=": lambda _, high, value: bool(high >= value),
}


def scan_filters(frame: DataFrame, database: str) -> dict[str, Scans] | None:
    """The scans by `database.table`; None if not all can be seen, or some run more than once.

    `database` is that of names without one.
    """
    try:
        plan = frame.optimized_logical_plan()
    except Exception:  # noqa: BLE001 it cannot be computed ('x' as a time): its run says why
        return None
    shown = plan.display_indent()
    found: dict[str, list[list[Expr]]] = {}
    count = 0
    for scan in _scans(plan):
        count += 1
        _, schema, table = scan.fqn()  # As written in the query: parts may be missing.
        found.setdefault(f"{schema or database}.{table}", []).append(scan.filters())
    # A subquery inside an expression is no input of its node: its scans would be missed.
    if "<subquery>" in shown or "RecursiveQuery" in shown or shown.count("TableScan: ") != count:
        return None
    return dict(found)


def may_match(filters: Sequence[Expr], ranges: Ranges) -> bool:
    """Whether a row of a file with these `ranges` can pass all `filters`."""
    return all(_may_be_true(each, ranges) for each in filters)


class LoggedRanges(Mapping[str, "tuple[Any, Any] | None"]):
    """What the log says of the values in one file, column by column, when it is asked."""

    def __init__(self, snapshot: Snapshot, file: DataFile) -> None:
        self._snapshot, self._file = snapshot, file
        self._statistics: Statistics | None = None
        self._found: dict[str, tuple[Any, Any] | None] = {}

    def __getitem__(self, name: str) -> tuple[Any, Any] | None:
        if name not in self._found:
            self._found[name] = self._look_up(name)
        return self._found[name]

    def _look_up(self, name: str) -> tuple[Any, Any] | None:
        field = self._snapshot.schema.field(name)
        if name in self._file.partition:
            value = partition_value(self._file.partition[name], field)[0].as_py()
            return None if value is None else (value, value)
        if pa.types.is_floating(field.type):
            raise KeyError(name)  # NaN is in no bound, and above every number.
        if self._statistics is None:
            columns = self._snapshot.state.columns
            self._statistics = Statistics.of(self._file.stats, self._snapshot.schema, columns)
        bounds = self._statistics.bounds(name)
        if bounds is None:
            raise KeyError(name)
        return None if bounds == ALL_NULL else bounds

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._snapshot.schema.names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _scans(plan: Any) -> Iterator[Any]:
    variant = plan.to_variant()
    if type(variant).__name__ == "TableScan":
        yield variant
    for each in plan.inputs():
        yield from _scans(each)


def _may_be_true(expression: Expr, ranges: Ranges) -> bool:
    kind = expression.variant_name()
    if kind == "BinaryExpr":
        left, right = expression.rex_call_operands()
        name = expression.rex_call_operator()
        if name == "AND":
            return _may_be_true(left, ranges) and _may_be_true(right, ranges)
        if name == "OR":
            return _may_be_true(left, ranges) or _may_be_true(right, ranges)
        if left.variant_name() == "Literal":
            left, right, name = right, left, _MIRRORED.get(name, "")
        return _may_compare(left, name, right, ranges)
    if kind == "InList" and expression.rex_call_operator() == "in list":
        column, *values = expression.rex_call_operands()
        return any(_may_compare(column, "=", value, ranges) for value in values)
    return True


def _may_compare(column: Expr, name: str, value: Expr, ranges: Ranges) -> bool:
    if column.variant_name() != "Column" or value.variant_name() != "Literal":
        return True
    known = column.to_variant().name()
    if name not in _COMPARE or known not in ranges:
        return True
    span = ranges[known]
    if span is None:
        return False  # Null compares to nothing.
    scalar = value.python_value()
    literal = scalar.as_py() if isinstance(scalar, pa.Scalar) else scalar
    if literal is None:
        return False
    try:
        return _COMPARE[name](*span, literal)
    except TypeError:
        return True
