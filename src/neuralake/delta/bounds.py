"""Which files can have a row that a condition holds for, by the statistics of the log.

Section "Per-file Statistics" of the Delta protocol. Any engine may have written them, so a bound
counts only for what all engines mean by it; what is missing or not understood rules nothing out.
Pure.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.delta.column_mapping import Columns
from neuralake.filters import Filter, values_of

__all__ = ["ALL_NULL", "Statistics", "partition_value"]

ALL_NULL = "all null"
"""What `Statistics.bounds` says of a column without values."""

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
# Bounds are cut to milliseconds, and engines differ in whether they then round the upper one up.
_TIME_CUT = timedelta(milliseconds=1)
# Texts are cut, by most engines to this length; an upper bound must then end in the last character.
_TEXT_CUT = 32
_LAST_CHARACTER = "\U0010ffff"
# Some engines write a decimal as the nearest float64.
_DECIMAL_SLACK = Decimal("1e-15")
# Polars compares integers with floats as floats, which are exact up to here.
_EXACT_FLOAT_MAX = 2**53

_COMPARE: dict[str, Callable[[Any, Any, Any], bool]] = {
    "=": lambda low, high, value: bool(low <= value <= high),
    "<": lambda low, _, value: bool(low < value),
    "<=": lambda low, _, value: bool(low <= value),
    ">": lambda _, high, value: bool(high > value),
    ">=": lambda _, high, value: bool(high >= value),
}


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of one file, as its JSON has them."""

    schema: pa.Schema
    rows: int | None
    low: Mapping[str, Any]
    high: Mapping[str, Any]
    nulls: Mapping[str, Any]
    columns: Columns | None = None
    """What the columns are called in the log, if not as in the schema."""

    @classmethod
    def of(cls, stats: str | None, schema: pa.Schema, columns: Columns | None = None) -> Statistics:
        """Decode `add.stats`; without any, or damaged, they tell nothing."""
        try:
            found = _DECODER.decode(stats or "{}")
            rows = found.get("numRecords")
            low, high, nulls = (
                found.get(key) or {} for key in ("minValues", "maxValues", "nullCount")
            )
            if not all(isinstance(tree, dict) for tree in (low, high, nulls)):
                raise TypeError
        except (msgspec.DecodeError, AttributeError, TypeError):
            return cls(schema, None, {}, {}, {})
        return cls(schema, rows if isinstance(rows, int) else None, low, high, nulls, columns)

    def may_hold(self, condition: Filter) -> bool:
        """Whether some row may pass `condition`, which fits the schema."""
        nulls = self.nulls.get(self._key(condition.column))
        if condition.operator == "is null":
            return nulls is None or nulls != 0
        bounds = self.bounds(condition.column)
        if bounds == ALL_NULL:
            return False  # Every other operator needs a value.
        operator = "=" if condition.operator == "in" else condition.operator
        if bounds is None or operator not in _COMPARE:
            return True
        kind = self.schema.field(condition.column).type
        return any(
            _may_compare(kind, operator, bounds, value)
            for value in values_of(condition, self.schema)
        )

    def may_hold_one_of(self, column: str, values: Sequence[Any]) -> bool:
        """Whether the column may have one of `values`: ascending, without null and NaN."""
        bounds = self.bounds(column)
        if bounds is None:
            return True
        if bounds == ALL_NULL:
            return False
        low, high = bounds
        place = bisect_left(values, low)
        return place < len(values) and bool(values[place] <= high)

    def bounds(self, column: str) -> Any:
        """`(low, high)` that no value of the column is outside of, None if unknown, or `ALL_NULL`.

        Of floats they bound all values but NaN.
        """
        key = self._key(column)
        nulls = self.nulls.get(key)
        if self.rows is not None and isinstance(nulls, int) and nulls == self.rows:
            return ALL_NULL
        kind = self.schema.field(column).type
        low, high = self.low.get(key), self.high.get(key)
        if low is None or high is None:
            return None
        try:
            return _low(kind, low), _high(kind, high)
        except (TypeError, ValueError, ArithmeticError):
            return None

    def _key(self, column: str) -> str:
        return column if self.columns is None else self.columns.physical_name(column)


def partition_value(text: str | None, field: pa.Field) -> pa.Array:
    """The value of a partition column, from its text in the log, as an array of one.

    Raises:
        ValueError: it is no text of such a value.
    """
    kind, types = field.type, pa.types
    value: Any = text or None  # An empty text is null, section "Partition Value Serialization".
    if value is None or types.is_string(kind):
        return pa.array([value], kind)
    if types.is_boolean(kind):
        return pa.array([{"true": True, "false": False}[value.lower()]])
    if types.is_integer(kind):
        return pa.array([int(value)], kind)
    if types.is_date(kind):
        return pa.array([date.fromisoformat(value)], kind)
    return pa.array([_instant(value, kind)], kind)


def _may_compare(kind: pa.DataType, operator: str, bounds: Any, value: Any) -> bool:
    if isinstance(value, float):
        if math.isnan(value):
            return True
        if pa.types.is_integer(kind) and abs(value) >= _EXACT_FLOAT_MAX:
            return True
    if pa.types.is_floating(kind):
        if operator in (">", ">="):
            return True  # NaN is above every number, and in no bound.
        value = _float(kind, value)
    low, high = bounds
    try:
        return _COMPARE[operator](low, high, value)
    except TypeError:
        return True


def _low(kind: pa.DataType, raw: Any) -> Any:
    if pa.types.is_decimal(kind):
        value = Decimal(raw)
        return value - abs(value) * _DECIMAL_SLACK
    return _plain(kind, raw)


def _high(kind: pa.DataType, raw: Any) -> Any:
    if pa.types.is_decimal(kind):
        value = Decimal(raw)
        return value + abs(value) * _DECIMAL_SLACK
    value = _plain(kind, raw)
    if pa.types.is_timestamp(kind):
        return value + _TIME_CUT
    if pa.types.is_string(kind) and len(value) >= _TEXT_CUT and value[-1] != _LAST_CHARACTER:
        raise ValueError("may have been cut")
    return value


def _plain(kind: pa.DataType, raw: Any) -> Any:
    types = pa.types
    if types.is_timestamp(kind) and isinstance(raw, str):
        return _instant(raw, kind)
    if types.is_date(kind) and isinstance(raw, str):
        return date.fromisoformat(raw)
    if types.is_floating(kind) and isinstance(raw, int | Decimal):
        return _float(kind, float(raw))
    wanted = {str: types.is_string(kind), bool: types.is_boolean(kind), int: types.is_integer(kind)}
    if wanted.get(type(raw)):
        return raw
    raise TypeError


def _float(kind: pa.DataType, value: Any) -> float:
    """`value` as a column of `kind` holds it: 0.1 of float32 is another number."""
    number = float(value)
    if pa.types.is_float32(kind) and math.isfinite(number):
        return float(struct.unpack("f", struct.pack("f", number))[0])
    return number


def _instant(text: str, kind: pa.DataType) -> datetime:
    value = datetime.fromisoformat(text)
    if kind.tz is None:
        if value.tzinfo is not None:
            raise ValueError("a wall clock has no zone")
        return value
    # Texts without a zone are UTC.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
