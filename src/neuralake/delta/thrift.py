"""Thrift's compact protocol, as far as a Parquet footer needs it, without knowing the footer.

A struct is a dict from field number to `(type, value)`, so that what is read can be written again
byte for byte, fields that nobody here has heard of included. See "Thrift Compact protocol encoding"
in the specification of Apache Thrift.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BINARY",
    "BYTE",
    "FALSE",
    "I16",
    "I32",
    "I64",
    "LIST",
    "STRUCT",
    "TRUE",
    "Struct",
    "decode",
    "decode_at",
    "encode",
]

Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_INTEGERS = {I16, I32, I64}
_BOOLEANS = {TRUE, FALSE}
# Far deeper than any footer nests; a damaged one must not exhaust the stack.
_DEPTH_MAX = 32
_NUMBER_MAX = 0x7FFF


def decode(data: bytes) -> Struct:
    """The struct that `data` begins with.

    Raises:
        ValueError: it is cut off or damaged.
    """
    return decode_at(data, 0)[0]


def decode_at(data: bytes, at: int) -> tuple[Struct, int]:
    """The struct that begins at offset `at` of `data`, and where it ends. Raises as `decode`."""
    reader = _Reader(data, at)
    try:
        return reader.struct(0), reader.at
    except IndexError as error:
        raise ValueError("The Thrift structure is cut off.") from error


def encode(struct: Struct) -> bytes:
    """The bytes of `struct`; `decode` gives it back."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int) -> Struct:
        _check_depth(depth)
        found: Struct = {}
        number, data = 0, self._data
        # Integers of a byte and the bytes themselves are taken here: a call for each would be half
        # of the time, and compaction reads thousands of footers.
        while (header := data[self.at]) != 0:
            self.at += 1
            kind = header & 0x0F
            number = number + (header >> 4) if header >> 4 else self._integer()
            if not 0 < number <= _NUMBER_MAX:  # Other readers would take it for another number.
                raise ValueError("A Thrift field has no number that a field can have.")
            value: Any = None  # A boolean field has its value in its type.
            if kind in _INTEGERS:
                byte = data[self.at]
                if byte < 0x80:
                    self.at += 1
                    value = (byte >> 1) ^ -(byte & 1)
                else:
                    value = self._integer()
            elif kind not in _BOOLEANS:
                value = self._value(kind, depth)
            found[number] = (kind, value)
        self.at += 1
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth)
        if kind in _BOOLEANS or kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            return self._take(8)
        if kind == MAP:
            return self._map(depth)
        raise ValueError(f"Unknown Thrift type {kind}.")

    def _list(self, depth: int) -> tuple[int, list[Any]]:
        _check_depth(depth)
        header = self._byte()
        kind, size = header & 0x0F, header >> 4
        if size == 15:
            size = self._varint()
        self._check_size(size)
        return kind, [self._value(kind, depth + 1) for _ in range(size)]

    def _map(self, depth: int) -> tuple[int, list[tuple[Any, Any]]]:
        _check_depth(depth)
        size = self._varint()
        kinds = self._byte() if size else 0
        self._check_size(size)
        key, value = kinds >> 4, kinds & 0x0F
        pairs = [(self._value(key, depth + 1), self._value(value, depth + 1)) for _ in range(size)]
        return kinds, pairs

    def _check_size(self, size: int) -> None:
        # Every element takes a byte at least: a damaged size must not ask for all memory.
        if size > len(self._data) - self.at:
            raise ValueError("The Thrift structure is cut off.")

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _take(self, size: int) -> bytes:
        taken = self._data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError("The Thrift structure is cut off.")
        self.at += size
        return taken

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("A Thrift integer is too long.")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)  # zigzag


def _check_depth(depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError("The Thrift structure nests too deeply.")


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(struct.items()):
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _write_integer(out, number)
        last = number
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_integer(out, value)
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        element, values = value
        out.append(min(len(values), 15) << 4 | element)
        if len(values) >= 15:
            _write_varint(out, len(values))
        for each in values:
            _write_value(out, element, each)
    elif kind == DOUBLE:
        out += value
    elif kind == MAP:
        kinds, pairs = value
        _write_varint(out, len(pairs))
        if pairs:
            out.append(kinds)
        for key, each in pairs:
            _write_value(out, kinds >> 4, key)
            _write_value(out, kinds & 0x0F, each)
    else:
        out.append(value)


def _write_integer(out: bytearray, value: int) -> None:
    _write_varint(out, (value << 1) ^ (value >> 63))


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
