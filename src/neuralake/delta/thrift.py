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
    "binary_at",
    "decode",
    "decode_at",
    "decode_fields",
    "decode_rest",
    "encode",
    "field_header",
    "integer_at",
    "list_header",
    "value_bytes",
]

Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_INTEGERS = {I16, I32, I64}
_BOOLEANS = {TRUE, FALSE}
# Far deeper than any footer nests; a damaged one must not exhaust the stack.
_DEPTH_MAX = 32
_NUMBER_MAX = 0x7FFF
# The offset of no byte: the struct itself says where it ends.
_NOWHERE = 2**63


def decode(data: bytes) -> Struct:
    """The struct that `data` begins with.

    Raises:
        ValueError: it is cut off or damaged.
    """
    return decode_at(data, 0)[0]


def decode_at(data: bytes, at: int) -> tuple[Struct, int]:
    """The struct that begins at offset `at` of `data`, and where it ends. Raises as `decode`."""
    try:
        found, _, at = _fields(data, at, 0, 0, _NOWHERE)
    except IndexError as error:
        raise ValueError("The Thrift structure is cut off.") from error
    return found, at


def decode_rest(data: bytes, at: int, *, after: int) -> tuple[Struct, int]:
    """The fields of a struct behind field `after`, which ends at `at`; and where the struct ends.

    Raises as `decode`.
    """
    try:
        found, _, at = _fields(data, at, after, 0, _NOWHERE)
    except IndexError as error:
        raise ValueError("The Thrift structure is cut off.") from error
    return found, at


def decode_fields(data: bytes, at: int, *, after: int, end: int) -> tuple[Struct, int]:
    """Part of a struct: the fields that lie between two offsets of `data`, and the last's number.

    Args:
        after: number of the field before.

    Raises:
        ValueError: damaged, or no field ends at `end`.
    """
    try:
        found, last, at = _fields(data, at, after, 0, end)
    except IndexError as error:
        raise ValueError("The Thrift structure is cut off.") from error
    if at != end:
        raise ValueError("A Thrift field ends elsewhere.")
    return found, last


def encode(struct: Struct) -> bytes:
    """The bytes of `struct`; `decode` gives it back."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def field_header(kind: int, number: int, last: int) -> bytes:
    """What stands before the value of field `number`; `last` is the number of the one before."""
    if 0 < number - last <= 15:
        return bytes([(number - last) << 4 | kind])
    out = bytearray([kind])
    _write_integer(out, number)
    return bytes(out)


def list_header(kind: int, size: int) -> bytes:
    """What stands before the elements of a list."""
    out = bytearray([min(size, 15) << 4 | kind])
    if size >= 15:
        _write_varint(out, size)
    return bytes(out)


def value_bytes(kind: int, value: Any) -> bytes:
    """A value without what stands before it; not for booleans that are fields."""
    out = bytearray()
    _write_value(out, kind, value)
    return bytes(out)


def binary_at(data: bytes, at: int) -> tuple[bytes, int]:
    """The binary at `at` and where it ends. Raises IndexError or ValueError: it is cut off."""
    size = data[at]
    if size < 0x80:
        at += 1
    else:
        size, at = _varint(data, at)
    end = at + size
    if end > len(data):
        raise ValueError("The Thrift structure is cut off.")
    return data[at:end], end


def integer_at(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at` and where it ends. Raises as `binary_at`."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at  # zigzag


# Compaction reads thousands of footers. So these functions pass the offset on instead of keeping it
# in an object, and take what fits in a byte or two on the spot: calls were most of the time.


def _fields(data: bytes, at: int, number: int, depth: int, end: int) -> tuple[Struct, int, int]:
    """The fields after `number` until their struct ends, or `end`; the last number, and where."""
    if depth > _DEPTH_MAX:
        raise ValueError("The Thrift structure nests too deeply.")
    found: Struct = {}
    while at < end:
        header = data[at]
        at += 1
        if not header:
            return found, number, at
        kind = header & 0x0F
        if header > 0x0F:
            number += header >> 4
        else:
            number, at = integer_at(data, at)
        if not 0 < number <= _NUMBER_MAX:  # Other readers would take it for another number.
            raise ValueError("A Thrift field has no number that a field can have.")
        value: Any = None  # A boolean field has its value in its type.
        if I16 <= kind <= I64:
            low = data[at]
            at += 1
            if low >= 0x80:
                high = data[at]
                if high >= 0x80:
                    low, at = _varint(data, at - 1)
                else:
                    low = low & 0x7F | high << 7
                    at += 1
            value = (low >> 1) ^ -(low & 1)
        elif kind == BINARY:
            value, at = binary_at(data, at)
        elif kind == STRUCT:
            value, _, at = _fields(data, at, 0, depth + 1, _NOWHERE)
        elif kind == LIST:
            value, at = _list(data, at, depth)
        elif kind not in (TRUE, FALSE):
            value, at = _value(kind, data, at, depth)
        found[number] = (kind, value)
    return found, number, at


def _value(kind: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if I16 <= kind <= I64:
        byte = data[at]
        return integer_at(data, at) if byte >= 0x80 else ((byte >> 1) ^ -(byte & 1), at + 1)
    if kind == BINARY:
        return binary_at(data, at)
    if kind == STRUCT:
        value, _, at = _fields(data, at, 0, depth + 1, _NOWHERE)
        return value, at
    if kind in (LIST, SET):
        return _list(data, at, depth)
    if kind in (TRUE, FALSE, BYTE):
        return data[at], at + 1
    if kind == DOUBLE:
        if at + 8 > len(data):
            raise ValueError("The Thrift structure is cut off.")
        return data[at : at + 8], at + 8
    if kind == MAP:
        return _map(data, at, depth)
    raise ValueError(f"Unknown Thrift type {kind}.")


def _list(data: bytes, at: int, depth: int) -> tuple[tuple[int, list[Any]], int]:
    _check_depth(depth)
    header = data[at]
    at += 1
    kind, size = header & 0x0F, header >> 4
    if size == 15:
        size, at = _varint(data, at)
    # Every element takes a byte at least: a damaged size must not ask for all memory.
    if size > len(data) - at:
        raise ValueError("The Thrift structure is cut off.")
    values = []
    if kind == STRUCT:
        for _ in range(size):
            value, _, at = _fields(data, at, 0, depth + 1, _NOWHERE)
            values.append(value)
    else:
        for _ in range(size):
            value, at = _value(kind, data, at, depth + 1)
            values.append(value)
    return (kind, values), at


def _map(data: bytes, at: int, depth: int) -> tuple[tuple[int, list[tuple[Any, Any]]], int]:
    _check_depth(depth)
    size, at = _varint(data, at)
    kinds = 0
    if size:
        kinds = data[at]
        at += 1
    if size > len(data) - at:
        raise ValueError("The Thrift structure is cut off.")
    pairs = []
    for _ in range(size):
        key, at = _value(kinds >> 4, data, at, depth + 1)
        value, at = _value(kinds & 0x0F, data, at, depth + 1)
        pairs.append((key, value))
    return (kinds, pairs), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("A Thrift integer is too long.")


def _check_depth(depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError("The Thrift structure nests too deeply.")


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(struct.items()):
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | kind)
        else:
            out += field_header(kind, number, last)
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
        out += list_header(element, len(values))
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
