"""What `scalars` and `rows` read of a declared schema, as JSON Schema (draft 2020-12).

It says what can be said there. Not in it: half surrogate pairs in texts and names that appear twice
in an object, which are refused; days that a month has not; and how many decimal places a number of
a decimal column has.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

__all__ = ["row_schema", "type_schema"]

_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_DAY = "(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_TIME = f"{_HOUR}(?::{_SIXTY}(?::{_SIXTY}(?:\\.[0-9]{{1,6}}0*)?)?)?"
_ZONE = f"(?:Z|[+-]{_HOUR}(?::?{_SIXTY})?)"
_FLOAT_MAX = {32: 3.4028234663852886e38, 64: 1.7976931348623157e308}
_NOT_NUMBERS = ["NaN", "Infinity", "-Infinity"]


def row_schema(schema: pa.Schema) -> dict[str, Any]:
    """The JSON Schema of one row."""
    return _object(list(schema))


def type_schema(kind: pa.DataType) -> dict[str, Any]:
    """The JSON Schema of a value, not null, of a column of type `kind`."""
    types = pa.types
    if types.is_integer(kind):
        top = 2 ** (kind.bit_width - 1)
        return {"type": "integer", "minimum": -top, "maximum": top - 1}
    if types.is_floating(kind):
        most = _FLOAT_MAX[kind.bit_width]
        number = {"type": "number", "minimum": -most, "maximum": most}
        return {"anyOf": [number, {"enum": _NOT_NUMBERS}]}
    if types.is_decimal(kind):
        return _decimal(kind)
    if types.is_timestamp(kind):
        pattern = f"^{_DAY}[T ]{_TIME}{_ZONE if kind.tz else ''}$"
        return {"type": "string", "pattern": pattern, "examples": [_instant(kind.tz)]}
    if types.is_list(kind):
        return {"type": "array", "items": _nullable(kind.value_field)}
    if types.is_struct(kind):
        return _object(list(kind))
    simple: dict[pa.DataType, dict[str, Any]] = {
        pa.string(): {"type": "string"},
        pa.bool_(): {"type": "boolean"},
        pa.binary(): {"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
        pa.date32(): {"type": "string", "pattern": f"^{_DAY}$"},
    }
    return simple[kind]


def _object(fields: list[pa.Field]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: _nullable(field) for field in fields},
        "additionalProperties": False,
    }
    required = [field.name for field in fields if not field.nullable]
    return found | ({"required": required} if required else {})


def _nullable(field: pa.Field) -> dict[str, Any]:
    found = type_schema(field.type)
    if not field.nullable:
        return found
    if isinstance(found.get("type"), str):
        return found | {"type": [found["type"], "null"]}
    return {"anyOf": [*found["anyOf"], {"type": "null"}]}


def _decimal(kind: pa.Decimal128Type) -> dict[str, Any]:
    whole, scale = kind.precision - kind.scale, kind.scale
    fraction = f"(?:\\.[0-9]{{0,{scale}}})?" if scale else "\\.?"
    text = f"^[+-]?[0-9]{{1,{whole}}}{fraction}$" if whole else f"^[+-]?0?\\.[0-9]{{1,{scale}}}$"
    most = 10.0**whole
    number = {
        "type": "number",
        "exclusiveMinimum": -most,
        "exclusiveMaximum": most,
        "description": f"With at most {scale} decimal places.",
    }
    return {"anyOf": [number, {"type": "string", "pattern": text}]}


def _instant(zone: str | None) -> str:
    return "2026-01-31T10:20:30.5" + ("Z" if zone else "")
