"""Dead letters: what gives no row, with its bytes and the reason, and how they travel.

Letters of a request travel behind its rows, in the same envelope: one append stores both or
neither, under one idempotency key. Who reads rows only (`queue.rows`) never sees them: an Arrow
stream ends where it says.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from neuralake.errors import NeedsAttention
from neuralake.queue import Envelope

__all__ = ["DeadLetter", "letters_of", "reason_of", "with_letters"]

_MAGIC = b"NLKdeadL"
_TAIL = struct.Struct("<Q8s")
# A reason is for people; what a stranger wrote into it is not to fill the table.
_REASON_LENGTH_MAX = 1000

_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("value", pa.binary()),
        ("format", pa.string()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row, or a whole request or message, that does not fit its table."""

    value: bytes
    """As it came: a JSON text, or an Arrow stream of one row; of a whole, all of it."""
    reason: str
    column: str | None = None
    row: int | None = None
    """Its number (from 0) in the request or message; None: the whole."""
    format: str = "json"
    """How to read `value`: `json`, `ndjson`, `csv`, `tsv`, `arrow`, `avro`, `protobuf`."""
    source: str = ""
    """Who sent it."""
    position: int = 0
    """Of the envelope or message in its partition, once it has one."""
    attached: str | None = None
    """JSON of what came with a Kafka message and is not in its value (`records.messages`)."""


def reason_of(error: Exception) -> tuple[str, str | None]:
    """`(reason, column)` of the error that a value raised; short, and text that can be stored."""
    facts = getattr(error, "facts", {})
    reason, column = str(facts.get("reason") or error), facts.get("column")
    return _text(reason), None if column is None else _text(str(column))


def with_letters(payload: bytes, letters: Sequence[DeadLetter]) -> bytes:
    """An envelope's `payload` of rows with `letters` behind them."""
    if not letters:
        return payload
    columns = {name: [getattr(letter, name) for letter in letters] for name in _SCHEMA.names}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=_SCHEMA))
    stream = sink.getvalue().to_pybytes()
    return b"".join([payload, stream, _TAIL.pack(len(stream), _MAGIC)])


def letters_of(envelope: Envelope) -> list[DeadLetter]:
    """The letters that travel in `envelope`, with its position.

    Raises:
        NeedsAttention: it is damaged.
    """
    payload = envelope.payload
    if not payload.endswith(_MAGIC):
        return []
    size, _ = _TAIL.unpack_from(payload, len(payload) - _TAIL.size)
    end = len(payload) - _TAIL.size
    try:
        stream = pa.py_buffer(payload).slice(max(0, end - size), size)
        rows = pa.ipc.open_stream(stream).read_all().to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise NeedsAttention(
            f"The dead letters in the envelope at position {envelope.position} cannot be read: "
            f"{error}. It and what came after it wait in the queue.",
            position=envelope.position,
        ) from error
    return [replace(DeadLetter(**row), position=envelope.position) for row in rows]


def _text(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _REASON_LENGTH_MAX else text[: _REASON_LENGTH_MAX - 3] + "..."
