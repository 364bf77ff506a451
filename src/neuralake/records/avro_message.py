"""Avro messages, as schema registries frame them, become values as JSON has them.

What comes out is read by the same code as JSON, so a value means the same in both: timestamps and
dates are texts, bytes are base64, numbers that are not whole are decimals.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

from neuralake.errors import MissingExtra, UsageError
from neuralake.queue.kafka_registry import RegisteredSchema
from neuralake.records.scalars import as_number

__all__ = ["AvroReader"]

_HEAD_BYTES = 5
_WHOLE = "value"


class AvroReader:
    """Reads messages of any schema that `schema_of` knows. Use it from one thread at a time.

    Args:
        schema_of: the schema of an id, as a registry has it.

    Raises:
        MissingExtra: fastavro is not installed.
    """

    def __init__(self, schema_of: Callable[[int], RegisteredSchema]) -> None:
        if importlib.util.find_spec("fastavro") is None:
            raise MissingExtra(
                "Messages in Avro need an extra: pip install 'neuralake[kafka]'", extra="kafka"
            )
        self._schema_of = schema_of
        self._parsed: dict[int, Any] = {}

    def __call__(self, message: bytes) -> tuple[Any, int]:
        """The record of `message`, and about how many values it has: one of each byte.

        Raises:
            UsageError: it has no such head, its schema is unknown or not understood, or it is
                damaged.
            Unavailable: the registry does not answer.
        """
        import fastavro

        if len(message) < _HEAD_BYTES or message[0] != 0:
            raise _unfit("it does not begin with 0 and a schema's id")
        number = int.from_bytes(message[1:_HEAD_BYTES], "big")
        if number not in self._parsed:
            found = self._schema_of(number)
            try:
                schema, trouble = _understood(found)
            except Exception as error:
                raise _unfit(f"its schema {number} is not understood: {error}") from error
            if trouble is not None:
                raise _unfit(f"schema {number} {trouble}")
            self._parsed[number] = schema
        body = BytesIO(message[_HEAD_BYTES:])
        try:
            # The library raises whatever its parts raise: EOFError, IndexError, KeyError, …
            whole: Any = fastavro.schemaless_reader(body, self._parsed[number], None)
            record = whole[_WHOLE]
        except Exception as error:
            raise _unfit(
                f"it is not a record of schema {number} ({type(error).__name__})"
            ) from error
        if body.read(1):
            raise _unfit(f"there is more after the record of schema {number}")
        return _as_json(record), len(message)


def _understood(found: RegisteredSchema) -> tuple[Any, str | None]:
    """`found` as the library reads it, inside a record; and what of `_trouble` says of it."""
    import fastavro

    known: dict[str, Any] = {}
    # Each behind those that it refers to.
    parts = [fastavro.parse_schema(json.loads(text), known) for text in found.imports.values()]
    # The library knows names from elsewhere inside a record only; around a schema it has no bytes.
    field = {"name": _WHOLE, "type": json.loads(found.text)}
    whole = {"type": "record", "name": "neuralake_whole", "fields": [field]}
    schema = fastavro.parse_schema(whole, known)
    named: dict[str, Any] = {}
    troubles = (_trouble(part, named) for part in [*parts, schema])
    return schema, next(filter(None, troubles), None)


def _trouble(schema: Any, named: dict[str, Any]) -> str | None:
    """Why messages of `schema`, parsed, could end this process; None: they cannot.

    `named` has the types that were looked at before, and then those of `schema`.

    A message has at most one item of an array for each of its bytes, unless the items take none:
    then a few bytes say that there are 2**60. And fastavro follows a type that holds itself as deep
    as a message says, and past the end of the stack; no column could hold such a value.
    """

    def look(part: Any, inside: frozenset[str]) -> str | None:
        if isinstance(part, list):
            return next(filter(None, (look(branch, inside) for branch in part)), None)
        if isinstance(part, str):
            if part in inside:
                return f"has a type that holds itself, {part!r}"
            return None  # Others were looked at where they are defined.
        if name := part.get("name"):
            named[name], inside = part, inside | {name}
        parts = [part["type"], part.get("items"), part.get("values")]
        parts += [field["type"] for field in part.get("fields", ())]
        found = (look(each, inside) for each in parts if each is not None)
        if (trouble := next(filter(None, found), None)) is not None:
            return trouble
        if part["type"] == "array" and _is_empty(part["items"], named):
            return "has an array whose items take no bytes"
        return None

    return look(schema, frozenset())


def _is_empty(schema: Any, named: dict[str, Any]) -> bool:
    """Whether values of `schema`, which does not hold itself, take no bytes: null and its like."""
    if isinstance(schema, str):
        return schema == "null" or (schema in named and _is_empty(named[schema], named))
    if isinstance(schema, list):
        return False  # A union takes a byte for its branch.
    if schema["type"] in ("record", "error"):
        return all(_is_empty(field["type"], named) for field in schema["fields"])
    if schema["type"] == "fixed":
        return bool(schema["size"] == 0)
    return _is_empty(schema["type"], {})


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_json(inner) for inner in value]
    if isinstance(value, float):
        return as_number(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    return value


def _unfit(reason: str) -> UsageError:
    return UsageError(f"The message cannot be read as Avro: {reason}.", reason=reason)
