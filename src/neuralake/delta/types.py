"""Column types: the declared Arrow schema as a Delta `schemaString`, and back.

Section "Schema Serialization Format" of the Delta protocol. Only types that `schema.declare`
accepts are written. Reading meets tables of other writers too: a type that we do not know is
refused by name.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.errors import UnsupportedFeature

__all__ = [
    "from_schema_string",
    "has_timestamp_ntz",
    "readable_schema_string",
    "to_schema_string",
]

_NAMES: dict[pa.DataType, str] = {
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamp",
    pa.timestamp("us"): "timestamp_ntz",
}
_TYPES = {name: kind for kind, name in _NAMES.items()}
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")


def to_schema_string(schema: pa.Schema) -> str:
    """The `schemaString` of a declared schema."""
    return msgspec.json.encode(_struct(schema)).decode()


def from_schema_string(text: str) -> pa.Schema:
    """The Arrow schema of a `schemaString`.

    Raises:
        UnsupportedFeature: a column has a type that we do not read.
    """
    return pa.schema(
        [_field(field, field["name"]) for field in msgspec.json.decode(text)["fields"]]
    )


def readable_schema_string(text: str) -> str:
    """`text` without the columns that have, at any depth, a type that we do not read."""
    struct = msgspec.json.decode(text)
    kept = [field for field in struct["fields"] if _is_known(field["type"])]
    if len(kept) == len(struct["fields"]):
        return text
    return msgspec.json.encode({**struct, "fields": kept}).decode()


def has_timestamp_ntz(schema: pa.Schema) -> bool:
    """Whether some column, at any depth, is a timestamp without zone: a feature of its own."""
    return any(_contains_ntz(field.type) for field in schema)


def _struct(fields: Any) -> dict[str, Any]:
    return {
        "type": "struct",
        "fields": [
            {
                "name": field.name,
                "type": _name(field.type),
                "nullable": field.nullable,
                "metadata": {},
            }
            for field in fields
        ],
    }


def _name(kind: pa.DataType) -> str | dict[str, Any]:
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        item = kind.value_field
        return {
            "type": "array",
            "elementType": _name(item.type),
            "containsNull": item.nullable,
        }
    if pa.types.is_struct(kind):
        return _struct(kind)
    return _NAMES[kind]


def _field(field: dict[str, Any], path: str) -> pa.Field:
    return pa.field(field["name"], _type(field["type"], path), nullable=field["nullable"])


def _type(kind: str | dict[str, Any], path: str) -> pa.DataType:
    if isinstance(kind, str):
        if kind in _TYPES:
            return _TYPES[kind]
        if match := _DECIMAL.fullmatch(kind):
            return pa.decimal128(int(match[1]), int(match[2]))
    elif kind["type"] == "struct":
        return pa.struct([_field(field, f"{path}.{field['name']}") for field in kind["fields"]])
    elif kind["type"] == "array":
        element = _type(kind["elementType"], f"{path}[]")
        return pa.list_(pa.field("element", element, nullable=kind["containsNull"]))
    name = kind if isinstance(kind, str) else kind["type"]
    raise UnsupportedFeature(
        f"Column {path!r} has the Delta type {name!r}, which we do not read or write.",
        features=[f"type {name}"],
        column=path,
    )


def _is_known(kind: Any) -> bool:
    try:
        _type(kind, "")
    except UnsupportedFeature:
        return False
    return True


def _contains_ntz(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_contains_ntz(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _contains_ntz(kind.value_type)
    return bool(pa.types.is_timestamp(kind) and kind.tz is None)
