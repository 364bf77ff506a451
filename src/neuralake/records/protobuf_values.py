"""Protobuf messages become values as JSON has them.

As Protobuf's own JSON mapping, but for what would lose something or have no type here: names are
those of the `.proto` file, whole numbers of 64 bits are numbers, maps are lists of `key` and
`value` in the order of keys, and durations stay `seconds` and `nanos`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from neuralake.records.scalars import as_number

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["MessageValues", "TooManyValues"]

Convert = Callable[[Any], Any]

_OWN = "google.protobuf."
_WRAPPERS = frozenset(
    f"{_OWN}{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
# Of fields that a type does not have so many are named; there may be a million.
_UNKNOWN_MAX = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799  # Years 1 to 9999.


class TooManyValues(ValueError):
    """A message has more values than are read."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a type of message."""

    defaults: dict[str, Any]
    """What fields have that are not set and of which that cannot be seen."""
    fields: dict[int, _Field]
    """The others by number; extensions are not among them."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    convert: Convert
    is_repeated: bool
    key: Convert | None = None
    """Of keys, if it is a map; `convert` is of its values."""


class MessageValues:
    """Turns messages of one set of descriptors into values. Use it from one thread at a time.

    Args:
        values_max: a message may have so many, those that are not set counted too: two bytes can
            stand for a whole message of them.
    """

    def __init__(self, *, values_max: int) -> None:
        self._values_max, self._left = values_max, 0
        self._shapes: dict[str, _Shape] = {}

    def of(self, message: Message) -> tuple[Any, int]:
        """The value of `message`, and how many values there are in it.

        A field that its type does not have (of a newer version of it) is one with a name that no
        column has.

        Raises:
            TooManyValues: it has more than `values_max`.
            ValueError: a time that there is not.
        """
        self._left = self._values_max
        return self._value(message), self._values_max - self._left

    def _value(self, message: Any) -> Any:
        name: str = type(message).DESCRIPTOR.full_name
        if name.startswith(_OWN):
            if name == f"{_OWN}Timestamp":
                return _time(message.seconds, message.nanos)
            if name in _WRAPPERS:
                return self._object(message)["value"]
            if name == f"{_OWN}Value":
                kind = message.WhichOneof("kind")
                return self._object(message)[kind] if kind and kind != "null_value" else None
            if name == f"{_OWN}ListValue":
                return self._object(message)["values"]
            if name == f"{_OWN}Struct":
                return {each["key"]: each["value"] for each in self._object(message)["fields"]}
        return self._object(message)

    def _object(self, message: Any) -> dict[str, Any]:
        from google.protobuf.unknown_fields import UnknownFieldSet

        kind = type(message)
        shape = self._shape(kind.DESCRIPTOR)
        self._spend(1 + len(shape.fields))
        found = dict(shape.defaults)
        # Over the class: a field may be called ListFields, too.
        for descriptor, value in kind.ListFields(message):
            field = shape.fields.get(descriptor.number)
            if field is None or descriptor.is_extension:
                found[f"[{descriptor.full_name}]"] = True
            elif field.key is not None:
                self._spend(len(value))
                found[field.name] = [
                    {"key": field.key(key), "value": field.convert(value[key])}
                    for key in sorted(value)
                ]
            elif field.is_repeated:
                self._spend(len(value))
                found[field.name] = [field.convert(each) for each in value]
            else:
                found[field.name] = field.convert(value)
        unknown = UnknownFieldSet(message)
        for index in range(min(len(unknown), _UNKNOWN_MAX)):
            found[f"(field {unknown[index].field_number}, which the descriptors have not)"] = True
        return found

    def _spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise TooManyValues(f"it has more than {self._values_max} values")

    def _shape(self, descriptor: Descriptor) -> _Shape:
        shape = self._shapes.get(descriptor.full_name)
        if shape is None:
            fields = {each.number: self._field(each) for each in descriptor.fields}
            defaults = {
                each.name: [] if each.is_repeated else self._convert(each)(each.default_value)
                for each in descriptor.fields
                if not each.has_presence
            }
            shape = self._shapes[descriptor.full_name] = _Shape(defaults, fields)
        return shape

    def _field(self, field: FieldDescriptor) -> _Field:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            key, value = (inner.fields_by_number[number] for number in (1, 2))
            return _Field(field.name, self._convert(value), True, self._convert(key))
        return _Field(field.name, self._convert(field), field.is_repeated)

    def _convert(self, field: FieldDescriptor) -> Convert:
        if field.message_type is not None:
            return self._value
        if field.enum_type is not None:
            names = {each.number: each.name for each in reversed(field.enum_type.values)}
            # A number that has no name (yet) stays one, as in Protobuf's JSON.
            return lambda number: names.get(number, number)
        if field.type == field.TYPE_BYTES:
            return _base64
        if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
            return as_number
        return _same


def _same(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _time(seconds: int, nanos: int) -> str:
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX or not 0 <= nanos < 1_000_000_000:
        raise ValueError(f"a time of {seconds} s and {nanos} ns is outside of the years 1 to 9999")
    clock = (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")
    return f"{clock}.{nanos:09d}Z"
