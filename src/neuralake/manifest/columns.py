"""Types as people write them, values as people read them, and one example row of a schema."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

__all__ = ["example_row", "partition_value", "type_text", "value_text"]

_TEXT_MAX = 40
_NAMES = {"date32[day]": "date", "halffloat": "float16", "float": "float32", "double": "float64"}


def type_text(kind: pa.DataType) -> str:
    """`timestamp (UTC)`, `decimal(10, 2)`, `list<float64>`, `struct<x: int32, y: int32>`."""
    types = pa.types
    if types.is_timestamp(kind):
        return f"timestamp ({kind.tz})" if kind.tz else "timestamp"
    if types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if types.is_list(kind) or types.is_large_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    if types.is_struct(kind):
        return f"struct<{', '.join(f'{f.name}: {type_text(f.type)}' for f in kind)}>"
    # How Arrow lays a text out (large, view) is nothing to know about a table.
    name = str(kind).removeprefix("large_").removesuffix("_view")
    return _NAMES.get(name, name)


def value_text(value: Any) -> str:
    """A smallest or largest value, short enough for a table's cell."""
    match value:
        case float():
            # Parquet states a smallest 0 as -0, since both are the same number.
            return f"{value + 0.0:.6g}"
        case datetime.datetime():
            text = value.replace(tzinfo=None).isoformat(sep=" ")
            return re.sub(r"0{1,5}$", "", text) if "." in text else text.removesuffix(" 00:00:00")
        case bytes():
            return f"{len(value)} bytes"
        case bool():
            return str(value).lower()
    text = str(value)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"


def example_row(schema: pa.Schema, known: Mapping[str, Any]) -> dict[str, Any]:
    """One row in the JSON form that ingestion accepts; `known` values win where they are JSON.

    Every column is there, and no value is null, so the row shows the form of each.
    """
    row = {field.name: _example(field.type) for field in schema}
    for name, value in known.items():
        if name in row and type(value) is type(row[name]):
            row[name] = value
    return row


def _example(kind: pa.DataType) -> Any:
    types = pa.types
    if types.is_boolean(kind):
        return True
    if types.is_integer(kind):
        return 1
    if types.is_floating(kind):
        return 0.5
    if types.is_decimal(kind):
        # Text, because a JSON number passes through a float in many senders.
        return str(
            Decimal(1 if kind.precision > kind.scale else 0)
            .scaleb(0)
            .quantize(Decimal(1).scaleb(-kind.scale))
        )
    if types.is_timestamp(kind):
        return "2026-01-31T12:30:00Z" if kind.tz else "2026-01-31T12:30:00"
    if types.is_date(kind):
        return "2026-01-31"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "AAEC"  # base64 of the bytes 0, 1, 2
    if types.is_list(kind) or types.is_large_list(kind):
        return [_example(kind.value_type)]
    if types.is_struct(kind):
        return {field.name: _example(field.type) for field in kind}
    return "text"


def partition_value(text: str, kind: pa.DataType) -> Any:
    """The value that a filter compares a partition column of `kind` with, from the log's text."""
    types = pa.types
    if types.is_boolean(kind):
        return text == "true"
    if types.is_integer(kind):
        return int(text)
    if types.is_decimal(kind):
        return Decimal(text)
    if types.is_timestamp(kind):
        moment = datetime.datetime.fromisoformat(text)
        return moment.replace(tzinfo=datetime.UTC) if kind.tz else moment
    if types.is_date(kind):
        return datetime.date.fromisoformat(text)
    return text
