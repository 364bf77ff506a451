"""Arrow values as text and JSON values from which every value can be read back.

Engine types that are only a layout (string views, dictionaries, large offsets) become the plain
type. For JSON: integers outside ±(2^53 - 1) and decimals are strings of their digits; NaN,
Infinity and -Infinity are these words; binary is base64; dates, times and timestamps are ISO 8601
(`Z` for an instant, nothing for a wall clock); durations are seconds as a decimal string; a map is
a list of [key, value]; a struct is an object.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["json_columns", "plain_batch", "plain_schema", "plain_type"]

_SAFE_INTEGER = 2**53 - 1


def plain_type(kind: pa.DataType) -> pa.DataType:
    """`kind` without layout variants, to any depth."""
    types = pa.types
    if types.is_string_view(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_binary_view(kind) or types.is_large_binary(kind):
        return pa.binary()
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if types.is_struct(kind):
        return pa.struct([_plain_field(field) for field in kind])
    return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with plain types and without the engine's metadata."""
    return pa.schema([_plain_field(field) for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` in the types of its `plain_schema`."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def json_columns(batch: pa.RecordBatch) -> list[list[Any]]:
    """The columns of `batch` as lists of JSON values."""
    return [_json_values(column) for column in batch.columns]


def _plain_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, plain_type(field.type), nullable=field.nullable)


def _json_values(column: pa.Array) -> list[Any]:
    kind, types = column.type, pa.types
    if types.is_boolean(kind) or types.is_string(kind) or types.is_null(kind):
        return list(column.to_pylist())
    if types.is_integer(kind):
        values = list(column.to_pylist())
        return values if _is_safe(column) else [_integer(value) for value in values]
    if types.is_floating(kind):
        values = list(column.to_pylist())
        return values if _is_finite(column) else [_number(value) for value in values]
    if types.is_binary(kind) or types.is_fixed_size_binary(kind):
        return [
            None if value is None else base64.b64encode(value).decode("ascii")
            for value in column.to_pylist()
        ]
    if types.is_struct(kind):
        return list(_structs(column))
    if types.is_map(kind) or types.is_list(kind) or types.is_fixed_size_list(kind):
        return list(_lists(column))
    return _texts(column)


def _is_safe(column: pa.Array) -> bool:
    if column.type.bit_width < 64:
        return True
    ends = pc.min_max(column).as_py()
    return ends["min"] is None or (ends["min"] >= -_SAFE_INTEGER and ends["max"] <= _SAFE_INTEGER)


def _is_finite(column: pa.Array) -> bool:
    return pc.all(pc.is_finite(column)).as_py() is not False


def _integer(value: int | None) -> int | str | None:
    return str(value) if value is not None and abs(value) > _SAFE_INTEGER else value


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _structs(column: pa.StructArray) -> Iterator[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    # `flatten` applies the struct's own nulls and slice to its fields; `field` does not.
    fields = [_json_values(field) for field in column.flatten()]
    rows = zip(*fields, strict=True) if fields else iter([()] * len(column))
    for is_valid, values in zip(column.is_valid().to_pylist(), rows, strict=True):
        yield dict(zip(names, values, strict=True)) if is_valid else None


def _lists(column: pa.Array) -> Iterator[list[Any] | None]:
    if pa.types.is_map(column.type):
        keys, items = _json_values(column.keys), _json_values(column.items)
        # `keys` and `items` are whole, whatever slice `column` is; its offsets point into them.
        values: list[Any] = [list(pair) for pair in zip(keys, items, strict=True)]
        ends = column.offsets.to_pylist()
        first = 0
    elif pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        values = _json_values(column.values)
        ends = [index * size for index in range(len(column) + 1)]
        first = column.offset * size
    else:
        values = _json_values(column.values)
        ends = column.offsets.to_pylist()
        first = 0
    for index, is_valid in enumerate(column.is_valid().to_pylist()):
        yield values[first + ends[index] : first + ends[index + 1]] if is_valid else None


def _texts(column: pa.Array) -> list[str | None]:
    """Decimals, dates, times, durations, intervals: their text."""
    types = pa.types
    if types.is_timestamp(column.type):
        return [None if text is None else text.replace(" ", "T") for text in _cast(column)]
    if types.is_duration(column.type):
        unit = {"s": 0, "ms": 3, "us": 6, "ns": 9}[column.type.unit]
        ticks = column.cast(pa.int64()).to_pylist()
        return [None if tick is None else _seconds(tick, unit) for tick in ticks]
    if types.is_interval(column.type):
        return [
            None if value is None else f"P{value.months}M{value.days}DT{value.nanoseconds}N"
            for value in column.to_pylist()
        ]
    return _cast(column)


def _cast(column: pa.Array) -> list[str | None]:
    return list(column.cast(pa.string()).to_pylist())


def _seconds(ticks: int, digits: int) -> str:
    if digits == 0:
        return str(ticks)
    whole, rest = divmod(abs(ticks), 10**digits)
    return f"{'-' if ticks < 0 else ''}{whole}.{rest:0{digits}d}"
