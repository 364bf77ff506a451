"""Conditions on columns as plain data: checked against a schema, turned into one Polars expression.

A `Filter` is a column, an operator and a value. Several filters in a list must all hold; a list of
such lists means that one of them must. As in SQL, a null matches no condition except `is null`.
`expression` refuses a filter that can never mean what it says (an unknown column, a text compared
with a number), so a typing mistake does not come back as an empty table. Pure: no I/O.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import reduce
from itertools import product
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from neuralake.errors import UnknownName, UsageError, suggestion

# Filters are data; only their expression needs Polars, which takes its time to load.
if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "OPERATORS",
    "Conditions",
    "Filter",
    "Filters",
    "check",
    "expression",
    "normalise",
    "values_of",
]

_COMPARE = ("=", "!=", "<", "<=", ">", ">=")
_LISTED = ("in", "not in")
_NULLNESS = ("is null", "is not null")
_INCLUDES = ("includes", "includes any", "includes all")
OPERATORS = (*_COMPARE, *_LISTED, *_NULLNESS, "contains", *_INCLUDES)
"""Every operator; `==` is read as `=`."""

_MANY = (*_LISTED, "includes any", "includes all")


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one column, such as `Filter("session", "=", "s-12")`.

    Operators: `= != < <= > >=`; `in` and `not in` with a list of values; `is null` and
    `is not null` without a value; `contains` (a text is part of the column's text); `includes`,
    `includes any` and `includes all` (a list column holds the value, one of, all of the values).
    Dates and timestamps may be given as ISO 8601 text.

    Raises:
        UsageError: the operator is unknown, or the value is not of the operator's shape.
    """

    column: str
    operator: str
    value: Any = None

    def __post_init__(self) -> None:
        operator = " ".join(self.operator.lower().split()) if _is_text(self.operator) else ""
        operator = "=" if operator == "==" else operator
        if not _is_text(self.column) or operator not in OPERATORS:
            raise UsageError(
                f"No filter {self.column!r} {self.operator!r} {self.value!r}: a filter is a column "
                f"name, an operator and a value.{suggestion(str(self.operator), list(OPERATORS))} "
                f"Operators: {', '.join(OPERATORS)}.",
                operator=self.operator,
                known=list(OPERATORS),
            )
        object.__setattr__(self, "operator", operator)
        if operator in _MANY:
            object.__setattr__(self, "value", _listed(self))
        elif operator in _NULLNESS and self.value is not None:
            raise UsageError(f"{self}: {operator!r} takes no value.", column=self.column)
        elif operator not in _NULLNESS and self.value is None:
            raise UsageError(
                f"{self}: nothing equals null, as in SQL. Use Filter({self.column!r}, 'is null').",
                column=self.column,
            )

    def __iter__(self) -> Iterator[Any]:
        return iter((self.column, self.operator, self.value))

    def __str__(self) -> str:
        value = "" if self.operator in _NULLNESS else f" {_shown(self.value)}"
        return f"{self.column} {self.operator}{value}"


Conditions: TypeAlias = tuple[tuple[Filter, ...], ...]
"""Filters in one shape: some inner tuple must hold in full; no tuple at all means every row."""

Filters: TypeAlias = Filter | Sequence[Filter] | Sequence[Sequence[Filter]]
"""What a caller may write: a filter, a list that must all hold, or a list of such lists (or)."""


def normalise(*filters: Filters | None) -> Conditions:
    """Every argument must hold; lists of lists inside one argument are alternatives.

    `(column, operator, value)` tuples pass as filters. An empty list is no condition.

    Raises:
        UsageError: something else than filters, with what it is.
    """
    groups = [group for group in map(_alternatives, filters) if group]
    conditions = [tuple(f for part in choice for f in part) for choice in product(*groups)]
    # An alternative without conditions holds for every row, and so does the whole.
    return () if not all(conditions) else tuple(conditions)


def check(filters: Filters | Conditions, schema: pa.Schema, *, name: str = "table") -> Conditions:
    """`filters` in one shape, each found possible for the columns of `schema`.

    Raises:
        UnknownName: no such column; the message names the nearest.
        UsageError: the value can never compare with the column's type.
    """
    conditions = normalise(filters)
    for group in conditions:
        for condition in group:
            _compile(condition, schema, name)
    return conditions


def expression(filters: Filters | Conditions, schema: pa.Schema, *, name: str = "table") -> pl.Expr:
    """One Polars expression that is true for the rows that `filters` keep; errors as `check`."""
    import polars as pl

    groups = [
        reduce(lambda a, b: a & b, [_compile(condition, schema, name) for condition in group])
        for group in normalise(filters)
    ]
    return reduce(lambda a, b: a | b, groups) if groups else pl.lit(value=True)


def values_of(condition: Filter, schema: pa.Schema) -> list[Any]:
    """What `condition` compares its column with, as Python data of the column's kind.

    Raises:
        UsageError: they do not compare.
    """
    values = condition.value if condition.operator in _MANY else (condition.value,)
    kind = schema.field(condition.column).type
    return [_literal(value, kind, condition) for value in values]


def _alternatives(filters: Any) -> list[list[Filter]]:
    if filters is None:
        return []
    if (single := _as_filter(filters)) is not None:
        return [[single]]
    if _is_expression(filters):
        raise UsageError("A Polars expression is no Filter; use .filter(expression) on the frame.")
    if not isinstance(filters, (list, tuple)):
        raise UsageError(
            f"Expected filters, found {type(filters).__name__} {filters!r}. "
            f"Write Filter(column, operator, value), or lists of these.",
        )
    if any(_as_filter(entry) is not None for entry in filters):
        found = [_as_filter(entry) for entry in filters]
        if None not in found:
            return [[entry for entry in found if entry is not None]]
        raise UsageError(f"Filters and lists of filters are mixed in one list: {filters!r}.")
    alternatives = [_alternatives(entry) for entry in filters]
    if any(len(entry) > 1 for entry in alternatives):
        raise UsageError(f"Filters are lists of lists, not deeper: {filters!r}.")
    return [entry[0] if entry else [] for entry in alternatives]


def _is_expression(value: Any) -> bool:
    polars = sys.modules.get("polars")  # Whoever made an expression has loaded it.
    return polars is not None and isinstance(value, polars.Expr)


def _as_filter(value: Any) -> Filter | None:
    if isinstance(value, Filter):
        return value
    is_triple = isinstance(value, tuple) and len(value) in (2, 3)
    return Filter(*value) if is_triple and all(map(_is_text, value[:2])) else None


def _compile(condition: Filter, schema: pa.Schema, name: str) -> pl.Expr:
    import polars as pl

    if condition.column not in schema.names:
        raise UnknownName(
            f"{name!r} has no column {condition.column!r} to filter by."
            f"{suggestion(condition.column, schema.names)} Its columns: {', '.join(schema.names)}.",
            kind="column",
            name=condition.column,
            known=list(schema.names),
        )
    column, kind = pl.col(condition.column), schema.field(condition.column).type
    operator, value = condition.operator, condition.value
    if operator in _NULLNESS:
        return column.is_null() if operator == "is null" else column.is_not_null()
    if operator in _INCLUDES:
        return _includes(condition, column, kind)
    if operator == "contains":
        if not (_is_string(kind) and _is_text(value)):
            raise _misfit(condition, kind, "Both must be text.")
        return column.str.contains(value, literal=True)
    if operator in _LISTED:
        values = [_literal(entry, kind, condition) for entry in value]
        if pa.types.is_integer(kind):
            # Polars compares no integer column with a list of floats, and 1.5 is in none.
            values = [int(entry) for entry in values if entry == int(entry)]
        found = column.is_in(values)
        return found if operator == "in" else ~found
    literal = pl.lit(_literal(value, kind, condition))
    match operator:
        case "=":
            return column == literal
        case "!=":
            return column != literal
        case "<":
            return column < literal
        case "<=":
            return column <= literal
        case ">":
            return column > literal
        case _:
            return column >= literal


def _includes(condition: Filter, column: pl.Expr, kind: pa.DataType) -> pl.Expr:
    import polars as pl

    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise _misfit(condition, kind, "The column must be a list.")
    values = condition.value if condition.operator in _MANY else (condition.value,)
    try:
        literals = [_literal(value, kind.value_type, condition) for value in values]
    except UsageError as error:
        raise _misfit(condition, kind, "The value is compared with the elements.") from error
    found = [column.list.contains(pl.lit(literal)) for literal in literals]
    if condition.operator == "includes any":
        return reduce(lambda a, b: a | b, found, pl.lit(value=False))
    return reduce(lambda a, b: a & b, found, pl.lit(value=True))


def _literal(value: Any, kind: pa.DataType, condition: Filter) -> Any:
    """`value` as Python data that compares with a column of `kind` as the caller means it."""
    types = pa.types
    if isinstance(value, bool) or types.is_boolean(kind):
        if isinstance(value, bool) and types.is_boolean(kind):
            return value
        raise _misfit(condition, kind)
    if types.is_integer(kind) or types.is_floating(kind):
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, (Real, Decimal)):
            return float(value)
        raise _misfit(condition, kind)
    if types.is_decimal(kind):
        return _decimal(value, kind, condition)
    if types.is_date(kind):
        return _date(value, kind, condition)
    if types.is_timestamp(kind):
        return _instant(value, kind, condition)
    wanted: type | None = None
    if _is_string(kind):
        wanted = str
    elif types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        wanted = bytes
    if wanted is None:
        raise _misfit(condition, kind, "Filter such a column on the frame, with .filter(...).")
    if not isinstance(value, wanted):
        raise _misfit(condition, kind)
    return value


def _decimal(value: Any, kind: pa.DataType, condition: Filter) -> Decimal:
    # Through the shortest text of a float: who writes 10.1 means 10.1, not its binary neighbour.
    if isinstance(value, (Integral, float, Decimal)):
        try:
            return Decimal(str(value))
        except InvalidOperation:
            pass
    raise _misfit(condition, kind)


def _date(value: Any, kind: pa.DataType, condition: Filter) -> date:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError as error:
            raise _misfit(condition, kind, "As text a date is YYYY-MM-DD.") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise _misfit(condition, kind)


def _instant(value: Any, kind: pa.DataType, condition: Filter) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise _misfit(condition, kind, "As text a timestamp is ISO 8601.") from error
    if not isinstance(value, datetime):
        raise _misfit(condition, kind)
    if (value.tzinfo is None) != (kind.tz is None):
        have, need = ("no zone", "one") if value.tzinfo is None else ("a zone", "none")
        raise _misfit(condition, kind, f"The value has {have}, the column needs {need}.")
    return value.astimezone(UTC) if value.tzinfo else value


def _misfit(condition: Filter, kind: pa.DataType, advice: str = "") -> UsageError:
    value = condition.value
    found = type(value).__name__
    if condition.operator in _MANY and value:
        found = f"{found} of {type(value[0]).__name__}"
    return UsageError(
        f"Filter {condition}: column {condition.column!r} is {kind}, the value is {found} "
        f"{_shown(value)}; they do not compare. {advice}".rstrip(),
        column=condition.column,
        type=str(kind),
        value=value,
    )


def _listed(condition: Filter) -> tuple[Any, ...]:
    value = condition.value
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise UsageError(
            f"Filter {condition.column} {condition.operator} {value!r}: "
            f"{condition.operator!r} takes a list of values.",
            column=condition.column,
        )
    values = tuple(value)
    if any(entry is None for entry in values):
        raise UsageError(
            f"Filter {condition.column} {condition.operator} {values!r}: null equals nothing, as "
            f"in SQL. Leave it out and add Filter({condition.column!r}, 'is null').",
            column=condition.column,
        )
    return values


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return value.isoformat() if isinstance(value, date) else repr(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_string(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
