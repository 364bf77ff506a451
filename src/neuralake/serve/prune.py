"""Which files of a Delta table a query can need, by partition values and the log's statistics.

delta-rs's table provider takes no filters (seen in 1.6.6 with DataFusion 55): it reads every file.
So a query is planned once over empty stand-ins; the filters that reach a scan of the stand-in tell
which files matter. A file is left out only when no row of it can pass; whatever is not understood
keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import DataFrame
from datafusion.expr import Expr

__all__ = ["Ranges", "Scans", "file_ranges", "may_match", "scan_filters"]

Ranges = Mapping[str, tuple[Any, Any] | None]
"""Smallest and largest value by column; None if all are null; absent if unknown."""

Scans = Sequence[Sequence[Expr]]
"""The scans of one table, each by the filters that its rows must pass."""

# Statistics of timestamps are cut to milliseconds; the largest value may lie beyond.
_CUT = timedelta(milliseconds=1)
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
    plan = frame.optimized_logical_plan()
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


def file_ranges(actions: pa.Table, partition_by: Sequence[str]) -> Iterator[tuple[str, Ranges]]:
    """Path (as in the log) and ranges of each file of `DeltaTable.get_add_actions()`."""
    rows = len(actions)
    smallest, largest = _ranged(actions, "min"), _ranged(actions, "max")
    columns = [name for name in smallest if name in largest]
    partitions = actions["partition"].to_pylist() if partition_by else [{}] * rows
    for index, path in enumerate(actions["path"].to_pylist()):
        ranges: dict[str, tuple[Any, Any] | None] = {}
        for name in columns:
            low, high = smallest[name][index], largest[name][index]
            if low is not None and high is not None:
                ranges[name] = (low, high)
        for name in partition_by:
            value = partitions[index][name]
            ranges[name] = None if value is None else (value, value)
        yield path, ranges


def _ranged(actions: pa.Table, which: str) -> dict[str, list[Any]]:
    """Columns whose statistics bound every value: not texts (cut short) or floats (NaN)."""
    if which not in actions.schema.names:
        return {}
    struct = actions[which].combine_chunks()
    found = {}
    for field in struct.type:
        kind, types = field.type, pa.types
        exact = (types.is_integer, types.is_date, types.is_decimal, types.is_timestamp)
        if not any(is_kind(kind) for is_kind in exact):
            continue
        values = pc.struct_field(struct, field.name).to_pylist()
        if types.is_timestamp(kind) and which == "max":
            values = [None if value is None else _later(value) for value in values]
        found[field.name] = values
    return found


def _later(value: Any) -> Any:
    try:
        return value + _CUT
    except OverflowError:  # The last millisecond of year 9999.
        return None


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
