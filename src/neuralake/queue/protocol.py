"""What a queue promises, whichever way it stores: the values, the protocol, the checks.

Rows enter as envelopes: one batch of rows of one topic, as bytes that the queue never reads. A
topic has partitions, usually one; appends name the topic, everything else a partition. Per
partition, positions are given in commit order and only grow: who has seen position p will never
find a new envelope at or below p, also after trims and restarts. They may have gaps.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from neuralake.errors import KeyReused, Trimmed, UsageError
from neuralake.queue.producers import ProducerSequence, check_producer

__all__ = [
    "KEYS_RETENTION_S",
    "MESSAGES_MAX",
    "READ_BYTES_MAX",
    "READ_ENVELOPES_MAX",
    "TAIL_BYTES_MAX",
    "Appended",
    "Backlog",
    "Bounds",
    "Envelope",
    "Messages",
    "Queue",
    "QueueReader",
    "check_append",
    "check_kept",
    "check_read",
    "check_same",
]

READ_ENVELOPES_MAX = 1024
READ_BYTES_MAX = 64 * 1024 * 1024
TAIL_BYTES_MAX = 16 * 1024 * 1024
"""What one answer of a server's tail is made of, but for a single larger envelope."""
MESSAGES_MAX = 10_000
"""Messages of somebody else's that are one envelope: larger batches are not quicker to read."""
KEYS_RETENTION_S = 24 * 3600.0

_ROWS_MAX = 2**32  # Far above any real batch; sums over a queue stay within 64 bits.


class Messages(Protocol):
    """Messages of a partition as somebody else produced them, in order; equally long columns."""

    @property
    def size(self) -> int:
        """Bytes of all values."""

    def __len__(self) -> int: ...

    def positions(self) -> list[int]: ...

    def values(self) -> list[bytes | None]:
        """None: a tombstone."""

    def keys(self) -> list[bytes | None]: ...

    def timestamps_ms(self) -> list[int | None]:
        """Unix milliseconds, by the producer's clock or the broker's, as the topic is set."""

    def headers(self) -> list[list[tuple[str, bytes | None]]]: ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """One batch of rows of one partition, as it was appended.

    One without `payload` and `messages` says only that up to `position` there is nothing more.
    """

    position: int
    """Greater than 0, growing within the partition, never reused."""
    payload: bytes
    """One Arrow IPC stream in the table's declared schema; opaque to the queue."""
    rows: int
    appended_s: float
    """Unix seconds by the clock of the process that stored it; may go back where clocks do."""
    messages: Messages | None = None
    """Instead of a payload: what others produced. `rows` counts messages, and `position` is the
    last one's."""

    @property
    def size(self) -> int:
        """Bytes of the payload, or of the messages' values."""
        return len(self.payload) if self.messages is None else self.messages.size


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append was stored."""

    position: int
    repeated: bool
    """The key or the producer's sequence was known: nothing was stored again; `position` is the
    first one's."""
    partition: str
    """Where `position` counts: one of `partitions(topic)`."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """One consistent look at a partition; all 0 for one that was never appended to."""

    last: int
    """Position of the newest envelope ever appended, kept or not; 0: none."""
    trimmed: int
    """Everything up to here was removed; 0: nothing."""
    rows: int
    """Rows kept now; over Kafka messages, and those that nobody can read count, too."""
    bytes: int
    """Payload bytes kept now; 0 over Kafka, which does not tell."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a partition keeps behind a position, seen at one moment."""

    rows: int
    """Over Kafka messages, and those that nobody can read count, too."""
    bytes: int
    """Of payloads; 0 over Kafka, which does not tell."""
    oldest_s: float | None
    """When the first of them was appended, in Unix seconds; None: there is nothing."""


class QueueReader(Protocol):
    """The half of a queue that only reads; from any thread."""

    @property
    def id(self) -> str:
        """Random identity of these contents: positions of different ids do not compare."""

    def partitions(self, topic: str) -> list[str]:
        """Names of the partitions of `topic`, in a fixed order; a queue with one calls it `topic`.

        A partition that is made anew gets another name, so `app_id(queue.id, partition)` stands
        for one sequence of positions for good. More may be added; none goes away while it has rows.
        """

    def bounds(self, partition: str) -> Bounds:
        """Newest and trimmed position and what is kept, seen at one moment."""

    def read(
        self,
        partition: str,
        *,
        after: int,
        envelopes_max: int = READ_ENVELOPES_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Envelope]:
        """Kept envelopes past position `after`, in order; at least one if there is any.

        Nothing is left out: it begins with the first envelope ever appended past `after`. It
        stops before `envelopes_max` or `bytes_max` is exceeded, but a first envelope larger than
        that is given.

        Raises:
            Trimmed: envelopes past `after` were removed; `error.trimmed` is the first usable
                `after`.
        """


class Queue(QueueReader, Protocol):
    """Topics of envelopes. Every method may be called from any thread."""

    def claim(self, topic: str) -> list[str]:
        """Those of `partitions(topic)` that this process is to write now; ask again often.

        A saving of work, not a lock: two processes may for a while hold the same claim, and the
        table's `txn` decides between them. A queue that knows of no other process gives all. What
        another process holds is given here when that one releases it, ends, or is not heard of.
        """

    def release(self, topic: str) -> None:
        """This process does not write `topic` any more; others may claim it at once."""

    def submit(
        self,
        topic: str,
        payload: bytes,
        rows: int,
        *,
        key: str | None = None,
        fingerprint: bytes | None = None,
        producer: ProducerSequence | None = None,
    ) -> Future[Appended]:
        """Start an append; the future completes when it is durable, or with what `append` raises.

        Submits of one thread to one topic get positions in that order, if stored. Never blocks on
        the disk. A future that completes with an error stored nothing, except where it says so.

        Raises:
            UsageError: an argument is out of range, or the queue is closed.
        """

    def append(
        self,
        topic: str,
        payload: bytes,
        rows: int,
        *,
        key: str | None = None,
        fingerprint: bytes | None = None,
        producer: ProducerSequence | None = None,
    ) -> Appended:
        """Store one envelope; when this returns it survives power loss (in memory: it does not).

        Args:
            rows: how many rows `payload` has; 0 or more.
            key: an idempotency key; the same key and topic again, within the retention of keys,
                stores nothing and answers with the first position, also when that is trimmed.
            fingerprint: a few bytes that are equal for what the caller holds to be the same; the
                payload itself may be another form of it. Kept with the key; None fits any.
            producer: instead of a key; of each producer the next sequence is stored, and the
                newest are recognised, within the retention of producers.

        Raises:
            KeyReused: the key or sequence is known with another fingerprint; nothing was stored.
            OutOfOrder: the sequence is not the next one of its producer; nothing was stored.
            UnknownProducer: nor the first one of a producer that is not known.
            QueueFull: nothing was stored; wait `error.retry_after_s`, then append the same again.
            Unavailable: nothing was stored (disk full or read-only, locked too long); wait and
                append again.
            TooLarge: it exceeds all that the topic or the queue may keep; it will never fit.
            NeedsAttention: the store is damaged or replaced.
        """

    def backlog(self, partition: str, *, after: int) -> Backlog:
        """What is kept behind position `after`; what was trimmed does not count."""

    def trim(self, partition: str, *, through: int, appended_before_s: float) -> int:
        """Remove the longest prefix of `position <= through` and `appended_s < appended_before_s`.

        Returns the number of envelopes removed. Not durable by itself: after a power loss some of
        them may be back, at their positions. A process that claimed the topic removes nothing once
        another one holds the claim.
        """

    def topics(self) -> list[str]:
        """Every topic ever appended to, sorted."""

    def probe(self) -> None:
        """Raise as `append` would if nothing at all could be stored now; stores nothing.

        A full queue is well. Cheap enough to be asked every second.
        """

    def close(self) -> None:
        """Finish what was submitted, then refuse every call. Closing again does nothing."""


def check_append(
    topic: str,
    payload: bytes,
    rows: int,
    key: str | None,
    producer: ProducerSequence | None = None,
) -> None:
    """Raise UsageError for arguments that no queue stores."""
    _check_text("topic", topic)
    if key is not None:
        _check_text("key", key)
    if producer is not None:
        _check_text("producer", producer.producer)
        check_producer(producer, key)
    if not isinstance(payload, bytes):
        raise UsageError(f"The payload is {type(payload).__name__}; a queue stores bytes.")
    if not 0 <= rows <= _ROWS_MAX:
        raise UsageError(f"rows is {rows}; it must be 0 to {_ROWS_MAX}.", rows=rows)


def check_read(after: int, envelopes_max: int) -> None:
    """Raise UsageError for bounds that no read can have."""
    if after < 0:
        raise UsageError(f"after is {after}; positions begin at 1, so 0 reads all.", after=after)
    if envelopes_max < 1:
        raise UsageError(f"envelopes_max is {envelopes_max}; it must be at least 1.")


def check_kept(topic: str, *, after: int, trimmed: int) -> None:
    """Raise Trimmed if envelopes past `after` are gone."""
    if after < trimmed:
        raise Trimmed(
            f"Topic {topic!r} was read after position {after}, but everything up to {trimmed} is "
            f"trimmed. Take a newer snapshot of the table and go on from its position.",
            topic=topic,
            after=after,
            trimmed=trimmed,
        )


def check_same(
    topic: str, key: str, position: int, *, first: bytes | None, again: bytes | None
) -> None:
    """Raise KeyReused if both fingerprints of `key` are known and differ."""
    if first is not None and again is not None and first != again:
        raise KeyReused(
            f"The idempotency key {key!r} of {topic!r} came with other rows before, which are at "
            f"position {position}; nothing of this is stored. Give each request a key of its own.",
            topic=topic,
            position=position,
        )


def _check_text(kind: str, text: str) -> None:
    if not text or "\0" in text:
        raise UsageError(f"The {kind} {text!r} is empty or has a NUL character.", name=text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"The {kind} {text!r} is not valid Unicode.", name=text) from None
