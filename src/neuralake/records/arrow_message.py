"""What the messages of an Arrow IPC stream are, read from their headers alone.

pyarrow gives no way to ask before it decompresses, and a few kilobytes can decompress to all of
memory; nor can it be told how many messages to take. The headers are Flatbuffers; a few fields of
three tables are all that is looked at. Bytes that do not parse are refused: what pyarrow might
still make of them is not known.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Messages", "look_through"]

_CONTINUATION = 0xFFFFFFFF
# Field numbers in Arrow's Message.fbs: Message(version, header_type, header, bodyLength,
# custom_metadata), DictionaryBatch(id, data, isDelta),
# RecordBatch(length, nodes, buffers, compression, variadicBufferCounts).
_VERSION, _HEADER_TYPE, _HEADER, _BODY_LENGTH, _CUSTOM_METADATA = 0, 1, 2, 3, 4
_DATA, _IS_DELTA, _NODES, _COMPRESSION, _VARIADIC = 1, 2, 1, 3, 4
_V5 = 4
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


@dataclass(frozen=True, slots=True)
class Messages:
    """What the headers of a stream say about its messages."""

    count: int
    values: int
    """Values and nulls of all arrays of record batches, at each depth."""
    longest: int
    """Those of the longest array, summed over the batches."""
    dictionaries: int
    deltas: int
    """Dictionary batches that add to an earlier one; readers copy the whole for each."""
    has_views: bool
    """A record batch has texts of which one may be there many times."""
    is_compressed: bool
    """A record or dictionary batch says that its buffers are compressed."""


def look_through(stream: bytes, *, count_max: int) -> Messages:
    """What is in `stream`; looks at no more than `count_max` messages and one.

    Raises:
        ValueError: the headers do not parse.
    """
    if stream.startswith(b"ARROW1"):
        raise ValueError("it is an Arrow file (Feather); write the same as a stream")
    at, count, values, longest, dictionaries, deltas = 0, 0, 0, 0, 0, 0
    is_compressed = has_views = False
    try:
        while at + 4 <= len(stream) and count <= count_max and not is_compressed:
            size, at = _u32(stream, at), at + 4
            if size == _CONTINUATION:
                size, at = _u32(stream, at), at + 4
            if size == 0:
                break
            message = _follow(stream, at)
            is_compressed = _batch_is_compressed(stream, message)
            count += 1
            kind, header = _header(stream, message)
            if kind == _DICTIONARY_BATCH:
                dictionaries += 1
                deltas += _is_delta(stream, header)
            elif kind == _RECORD_BATCH:
                lengths = _lengths(stream, header)
                values, longest = values + sum(lengths), longest + max(lengths, default=0)
                has_views = has_views or _field(stream, header, _VARIADIC) != 0
            length = _i64(stream, message, _BODY_LENGTH)
            if length < 0:
                raise ValueError("a message has a negative length")
            at += size + length
    except (struct.error, IndexError) as error:
        raise ValueError("a message header is damaged") from error
    return Messages(count, values, longest, dictionaries, deltas, has_views, is_compressed)


def _batch_is_compressed(stream: bytes, message: int) -> bool:
    kind, batch = _header(stream, message)
    if kind == _DICTIONARY_BATCH:
        data_at = _field(stream, batch, _DATA)
        if not data_at:
            return False
        batch = _follow(stream, data_at)
    elif kind != _RECORD_BATCH:
        return False
    if _field(stream, batch, _COMPRESSION):
        return True
    # Arrow 0.17 named the codec in the message's own metadata, and readers still believe it.
    version_at = _field(stream, message, _VERSION)
    is_current = version_at and struct.unpack_from("<h", stream, version_at)[0] >= _V5
    return not is_current and _field(stream, message, _CUSTOM_METADATA) != 0


def _is_delta(stream: bytes, dictionary: int) -> bool:
    delta_at = _field(stream, dictionary, _IS_DELTA)
    return delta_at != 0 and stream[delta_at] != 0


def _lengths(stream: bytes, batch: int) -> tuple[int, ...]:
    """Of the arrays: a vector of pairs of length and null count."""
    nodes_at = _field(stream, batch, _NODES)
    if not nodes_at:
        return ()
    nodes = _follow(stream, nodes_at)
    return struct.unpack_from(f"<{2 * _u32(stream, nodes)}q", stream, nodes + 4)[::2]


def _header(stream: bytes, message: int) -> tuple[int, int]:
    """Kind and place of what the message carries; kind 0 if it carries nothing."""
    kind_at = _field(stream, message, _HEADER_TYPE)
    header_at = _field(stream, message, _HEADER)
    if not kind_at or not header_at:
        return 0, 0
    return stream[kind_at], _follow(stream, header_at)


def _u32(stream: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", stream, at)[0])


def _i64(stream: bytes, table: int, number: int) -> int:
    at = _field(stream, table, number)
    return int(struct.unpack_from("<q", stream, at)[0]) if at else 0


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
