"""Whether an Arrow IPC stream has compressed buffers, read from its message headers alone.

pyarrow gives no way to ask before it decompresses, and a few kilobytes can decompress to all of
memory. The headers are Flatbuffers; three fields of two tables are all that is looked at. Bytes
that do not parse are refused: what pyarrow might still make of them is not known.
"""

from __future__ import annotations

import struct

__all__ = ["is_compressed"]

_CONTINUATION = 0xFFFFFFFF
# Field numbers in Arrow's Message.fbs: Message(version, header_type, header, bodyLength),
# DictionaryBatch(id, data), RecordBatch(length, nodes, buffers, compression).
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DATA, _COMPRESSION = 1, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def is_compressed(stream: bytes) -> bool:
    """True if a record or dictionary batch in `stream` says that its buffers are compressed.

    Raises:
        ValueError: the headers do not parse.
    """
    at = 0
    try:
        while at + 4 <= len(stream):
            size, at = _u32(stream, at), at + 4
            if size == _CONTINUATION:
                size, at = _u32(stream, at), at + 4
            if size == 0:
                return False
            message = _follow(stream, at)
            if _batch_is_compressed(stream, message):
                return True
            length_at = _field(stream, message, _BODY_LENGTH)
            length = struct.unpack_from("<q", stream, length_at)[0] if length_at else 0
            if length < 0:
                raise ValueError("a message has a negative length")
            at += size + length
    except (struct.error, IndexError) as error:
        raise ValueError("a message header is damaged") from error
    return False


def _batch_is_compressed(stream: bytes, message: int) -> bool:
    kind_at = _field(stream, message, _HEADER_TYPE)
    header_at = _field(stream, message, _HEADER)
    if not kind_at or not header_at:
        return False
    kind, batch = stream[kind_at], _follow(stream, header_at)
    if kind == _DICTIONARY_BATCH:
        data_at = _field(stream, batch, _DATA)
        if not data_at:
            return False
        batch = _follow(stream, data_at)
    elif kind != _RECORD_BATCH:
        return False
    return _field(stream, batch, _COMPRESSION) != 0


def _u32(stream: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", stream, at)[0])


def _follow(stream: bytes, at: int) -> int:
    return at + _u32(stream, at)


def _field(stream: bytes, table: int, number: int) -> int:
    """Where field `number` of the Flatbuffers table at `table` is; 0 if it is absent."""
    vtable = table - int(struct.unpack_from("<i", stream, table)[0])
    if vtable < 0:
        raise ValueError("a message header is damaged")
    (size,) = struct.unpack_from("<H", stream, vtable)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", stream, vtable + slot)
    return table + int(offset) if offset else 0
