"""What the gateway and its query processes say to each other, over a pair of pipes.

A message is a length (four bytes, big endian) and a tagged MessagePack struct. The gateway sends
`Start` once, then one `Run` per query. The process answers with `Began`, then `Ask` whenever it
needs rows of a function table (which only the gateway can call), `AskQueue` and `AskPage` for what
a live query reads of a queue, `Head`, `Data`… and `Tail`, or with `Failed` at any point; and at
last with `Ready`.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Literal

import msgspec

from neuralake import errors
from neuralake.errors import NeuralakeError
from neuralake.settings import StorageProfile

__all__ = [
    "BUG",
    "Answer",
    "Ask",
    "AskPage",
    "AskQueue",
    "Began",
    "Data",
    "Failed",
    "Format",
    "Given",
    "Head",
    "Limits",
    "Order",
    "Page",
    "QueueState",
    "Ready",
    "Run",
    "Source",
    "Start",
    "Tail",
    "error_of",
    "receive",
    "send",
]

Format = Literal["json", "csv", "arrow"]
BUG = "bug"
"""What `Failed.error` is when a query ended by an error that nobody raised on purpose."""

_LENGTH = struct.Struct(">I")


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A table as the engine needs it; `schema` is an Arrow IPC schema, None if undeclared."""

    kind: str
    uri: str = ""
    schema: bytes | None = None
    partition_schema: bytes | None = None
    is_hive: bool = True
    is_stream: bool = False
    """A stream that nobody has written yet is an empty table; any other is a mistake."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a query may use. Everything is per query; a process runs one at a time."""

    rows_max: int
    timeout_s: float
    memory_bytes_max: int
    query_bytes_max: int
    answer_bytes_max: int = 256 * 1024 * 1024
    held_bytes_max: int = 4 * 1024 * 1024
    """Bytes of an answer kept back until it is known whether the rest fits the limits: up to here
    an error still gets its own status."""


class Start(_Message, frozen=True):
    """What the process serves. It takes secrets from where the profiles say, as any other."""

    databases: dict[str, dict[str, Source]]
    limits: Limits
    profiles: tuple[StorageProfile, ...] = ()


class Run(_Message, frozen=True):
    sql: str
    format: Format
    timeout_s: float
    limit: int | None = None
    """Rows asked for; the rest is cut without complaint."""
    readable: tuple[str, ...] = ("*",)
    """Globs over `database.table`: to this query there are no other tables."""
    live: bool = False
    """Stream tables have every acknowledged row, not only what is committed."""


class Given(_Message, frozen=True):
    """Rows of a function table as an Arrow IPC stream."""

    rows: bytes


class Ask(_Message, frozen=True):
    database: str
    table: str


class AskQueue(_Message, frozen=True):
    """For the `QueueState` of a stream table."""

    database: str
    table: str


class QueueState(_Message, frozen=True):
    """The queue's identity, and newest and trimmed position by partition."""

    queue: str
    partitions: dict[str, tuple[int, int]]


class AskPage(_Message, frozen=True):
    """For the `Page` of a stream table's rows behind `after`."""

    database: str
    table: str
    partition: str
    after: int


class Page(_Message, frozen=True):
    """Rows as an Arrow IPC stream, and the position to go on behind."""

    queue: str
    position: int
    rows: int = 0
    payload: bytes = b""


class Began(_Message, frozen=True):
    """The process took the query: if it ends from here on, the query is why."""


class Head(_Message, frozen=True):
    """What is known before the first byte. `truncated` is None while it is not known."""

    truncated: bool | None
    rows: int | None
    versions: dict[str, int]


class Data(_Message, frozen=True):
    part: bytes


class Tail(_Message, frozen=True):
    rows: int
    truncated: bool


class Failed(_Message, frozen=True):
    """`error` is the name of a class of `neuralake.errors`, or `BUG`."""

    error: str
    message: str
    facts: dict[str, Any]


class Ready(_Message, frozen=True):
    """The process is idle and takes the next query."""

    base_bytes: int = 0
    """Memory that it holds; the first time, what it needs without a query."""


Order = Start | Run | Given | QueueState | Page | Failed
Answer = Began | Ask | AskQueue | AskPage | Head | Data | Tail | Failed | Ready

_ENCODER = msgspec.msgpack.Encoder(enc_hook=str)
_DECODER: msgspec.msgpack.Decoder[Order | Answer] = msgspec.msgpack.Decoder(Order | Answer)


def error_of(failed: Failed) -> Exception:
    """The error that `failed` tells of; one that nobody raised on purpose is a RuntimeError."""
    kind = getattr(errors, failed.error, None) if failed.error != BUG else None
    if isinstance(kind, type) and issubclass(kind, NeuralakeError):
        return kind(failed.message, **failed.facts)
    return RuntimeError(failed.message)


def send(pipe: BinaryIO, message: Order | Answer) -> None:
    """Write one message; raises OSError if nobody reads any more."""
    body = _ENCODER.encode(message)
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def receive(pipe: BinaryIO) -> Order | Answer | None:
    """The next message; None at the end of the pipe, also if it ends within a message."""
    length = pipe.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    body = pipe.read(_LENGTH.unpack(length)[0])
    if len(body) < _LENGTH.unpack(length)[0]:
        return None
    return _DECODER.decode(body)
