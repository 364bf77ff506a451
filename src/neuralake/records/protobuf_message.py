"""Protobuf messages, plain or as schema registries frame them, become values as JSON has them.

What comes out is read by the same code as JSON, so a value means the same in both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralake.errors import MissingExtra, NeedsAttention, UsageError
from neuralake.queue.kafka_registry import RegisteredSchema
from neuralake.records.protobuf_types import MessageTypes
from neuralake.records.protobuf_values import MessageValues

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["ProtobufReader"]

_HEAD_BYTES = 5
_FILE_BYTES_MAX = 16 * 1024 * 1024
# Some 100 bytes each in Python. A message of a broker's usual limit, 1 MB, has at most a million
# that are set; those that are not set count too.
_VALUES_MAX = 2_000_000
# Types are as deep as messages may be; a number has 5 groups of 7 bits.
_INDEXES_MAX, _GROUPS_MAX = 100, 5
# Versions of a schema that are in use at a time; descriptors take some 100 kB each.
_KEPT_MAX = 200


@dataclass(frozen=True, slots=True)
class _Known:
    """What messages of one schema are read with."""

    types: MessageTypes
    message: type[Message]
    values: MessageValues


class ProtobufReader:
    """Reads messages called `message`. Use it from one thread at a time.

    Args:
        message: the full name.
        file: a `FileDescriptorSet`, read with the first message.
        schema_of: without `file`: the schema of an id, as a registry has it.
        framed: messages have a registry's frame; without `file` they must.

    Raises:
        MissingExtra: protobuf is not installed.
    """

    def __init__(
        self,
        message: str,
        *,
        file: Path | None = None,
        schema_of: Callable[[int], RegisteredSchema] | None = None,
        framed: bool = False,
    ) -> None:
        try:
            import google.protobuf  # noqa: F401 only whether it is there
        except ImportError as error:
            raise MissingExtra(
                "Messages in Protobuf need an extra: pip install 'neuralake[kafka]'", extra="kafka"
            ) from error
        if (file is None) == (schema_of is None):
            raise UsageError("Descriptors come either from a file or from a registry.")
        self._name, self._file, self._schema_of = message, file, schema_of
        self._framed = framed or file is None
        self._known: dict[int | None, _Known] = {}

    def __call__(self, message: bytes) -> tuple[Any, int]:
        """The record of `message`, and how many values it has.

        Raises:
            UsageError: it has no such frame, its schema is unknown or not understood, it is of
                another type, or it is damaged.
            Unavailable: the registry does not answer.
            NeedsAttention: the file cannot be read, or does not have the message; or the registry
                refuses us.
        """
        number, indexes, body = None, None, message
        if self._framed:
            number, indexes, body = _unframed(message)
        known = self._known_of(None if self._file is not None else number)
        if indexes is not None:
            found = known.types.name_at(indexes, beside=self._name)
            if found != self._name:
                raise _unfit(f"it is {found or 'of an unknown type'}, not {self._name}")
        return self._record(known, body)

    def _record(self, known: _Known, body: bytes) -> tuple[Any, int]:
        try:
            parsed = known.message.FromString(body)
            if not known.message.IsInitialized(parsed):
                raise ValueError("a required field is missing")
            return known.values.of(parsed)
        except Exception as error:
            # The library raises its own errors, and UnicodeDecodeError where old types have text.
            raise _unfit(
                f"it is not a {self._name} ({str(error) or type(error).__name__})"
            ) from error

    def _known_of(self, number: int | None) -> _Known:
        known = self._known.get(number)
        if known is None:
            known = self._of_file() if number is None else self._of_schema(number)
            if len(self._known) >= _KEPT_MAX:
                self._known.clear()
            self._known[number] = known
        return known

    def _of_schema(self, number: int) -> _Known:
        assert self._schema_of is not None  # noqa: S101 it is this or a file
        found = self._schema_of(number)
        try:
            types = MessageTypes.of_file(
                base64.b64decode(found.text, validate=True),
                {n: base64.b64decode(text, validate=True) for n, text in found.imports.items()},
            )
        except ValueError as error:
            raise _unfit(f"its schema {number} is not understood: {error}") from error
        message = types.message(self._name)
        if message is None:
            raise _unfit(f"its schema {number} has no {self._name}")
        return _Known(types, message, MessageValues(values_max=_VALUES_MAX))

    def _of_file(self) -> _Known:
        # Not UsageError, which is of messages: none is to blame for the file.
        assert self._file is not None  # noqa: S101 it is this or a registry
        try:
            with self._file.open("rb") as opened:
                content = opened.read(_FILE_BYTES_MAX + 1)
            if len(content) > _FILE_BYTES_MAX:
                raise ValueError(f"it has more than {_FILE_BYTES_MAX} bytes")
            types = MessageTypes.of_set(content)
        except (OSError, ValueError) as error:
            raise NeedsAttention(
                f"The descriptors of {self._name} in {self._file} cannot be read: {error}. Make "
                f"the file with protoc --include_imports --descriptor_set_out=…"
            ) from error
        message = types.message(self._name)
        if message is None:
            raise NeedsAttention(f"The descriptors in {self._file} have no message {self._name}.")
        return _Known(types, message, MessageValues(values_max=_VALUES_MAX))


def _unframed(message: bytes) -> tuple[int, list[int], bytes]:
    """The schema's id, the indexes that lead to the type, and the rest."""
    if len(message) <= _HEAD_BYTES or message[0] != 0:
        raise _unfit("it does not begin with 0, a schema's id and message indexes")
    count, at = _index(message, _HEAD_BYTES)
    if count > _INDEXES_MAX:
        raise _unfit(f"it has {count} message indexes")
    indexes: list[int] = []
    for _ in range(count):
        index, at = _index(message, at)
        indexes.append(index)
    # The first type of a file is so common that it has one byte only.
    return int.from_bytes(message[1:_HEAD_BYTES], "big"), indexes or [0], message[at:]


def _index(message: bytes, at: int) -> tuple[int, int]:
    """The zigzag varint at `at`, never negative, and where it ends."""
    value = 0
    for group, byte in enumerate(message[at : at + _GROUPS_MAX]):
        value |= (byte & 0x7F) << (7 * group)
        if byte < 0x80:
            if value & 1:
                break
            return value >> 1, at + group + 1
    raise _unfit("its message indexes are damaged")


def _unfit(reason: str) -> UsageError:
    return UsageError(f"The message cannot be read as Protobuf: {reason}.", reason=reason)
