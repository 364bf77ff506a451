"""Read one partition of Kafka from any offset, without a consumer group.

Positions are offsets and one, so that position 0 is the beginning. What cannot be seen (aborted
transactions, their marks, what compaction removed) leaves gaps. The client library fetches ahead
in threads of its own; we take what it has, and ask the broker only if that is nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from neuralake.clock import Clock
from neuralake.errors import Trimmed, Unavailable
from neuralake.queue.kafka_connection import explain
from neuralake.queue.kafka_topics import KafkaTopics, Place
from neuralake.queue.protocol import MESSAGES_MAX, Messages

__all__ = ["KafkaMessages", "PartitionReader", "ReaderPool"]

# Fetched ahead per reader: enough for a commit's worth, and not a partition's.
_AHEAD_KBYTES_MAX = 64 * 1024
_READERS_KEPT = 2
_POLL_S = 0.05
# Rows that come now are here sooner than the broker could be asked about them.
_IDLE_S = 0.02


class KafkaMessages(Messages):
    """Messages as the client library gives them; each column is made when it is asked for."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._size = sum(map(len, messages))  # The length of a message is its value's.

    @property
    def size(self) -> int:
        return self._size

    def __len__(self) -> int:
        return len(self._messages)

    def positions(self) -> list[int]:
        # What was consumed has an offset; the library's type is also of what is to be sent.
        return [message.offset() + 1 for message in self._messages]  # type: ignore[operator]

    def values(self) -> list[bytes | None]:
        return list(map(Message.value, self._messages))

    def keys(self) -> list[bytes | None]:
        return list(map(Message.key, self._messages))

    def timestamps_ms(self) -> list[int | None]:
        return [time_ms if kind else None for kind, time_ms in map(_timestamp, self._messages)]

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        # Consumed headers are lists of pairs; its type also allows the dict that may be sent.
        return [message.headers() or [] for message in self._messages]  # type: ignore[misc]


class PartitionReader:
    """Reads a partition from where the last read ended, or from elsewhere at the price of a seek.

    Use it from one thread at a time.
    """

    def __init__(
        self,
        config: dict[str, Any],
        place: Place,
        topics: KafkaTopics,
        *,
        clock: Clock,
        answer_s_max: float,
    ) -> None:
        self._place, self._topics = place, topics
        self._clock, self._answer_s_max = clock, answer_s_max
        self._consumer = Consumer(
            config
            | {
                # Nobody joins or commits to this group; the library wants a name.
                "group.id": "neuralake-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                # To begin elsewhere by itself would lose or repeat rows without a word.
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": _AHEAD_KBYTES_MAX,
                "fetch.error.backoff.ms": 100,
            }
        )
        self._ahead: list[Message] = []
        self._given = -1
        """Where the last answer ended: nothing readable is between here and `reached`."""
        self._end_seen = -1
        self.reached = -1
        """The offset behind all that was given, and behind what nobody can read after it."""

    def is_at(self, after: int) -> bool:
        """Whether a read after position `after` goes on from the last one."""
        return self._given <= after <= self.reached

    def read(self, after: int, *, messages_max: int, bytes_max: int) -> list[Message]:
        """Messages past position `after`, in order; none only if there are none.

        Raises:
            Trimmed: some were removed.
            Unavailable: the brokers do not answer.
        """
        if not self.is_at(after):
            self._seek(after)
        if not self._ahead:
            self._take(_IDLE_S)
        if not self._ahead:
            self._wait(self._topics.end(self._place))
        return self._give(messages_max, bytes_max)

    def close(self) -> None:
        self._consumer.close()

    def _seek(self, after: int) -> None:
        self._ahead, self._given, self._end_seen, self.reached = [], after, -1, after
        self._consumer.assign([TopicPartition(self._place.topic, self._place.number, after)])

    def _take(self, wait_s: float = 0.0) -> None:
        """What the library has fetched; waits for the first message only."""
        found = self._consumer.consume(MESSAGES_MAX, 0.0)
        if not found and wait_s:
            first = self._consumer.poll(wait_s)
            found = [] if first is None else [first, *self._consumer.consume(MESSAGES_MAX - 1, 0.0)]
        if not found:
            return
        if not any(map(Message.error, found)):
            self._ahead = found
            return
        try:
            for message in found:
                error = message.error()
                if error is None:
                    self._ahead.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Here, not at the last message: what is between nobody will ever read.
                    self._end_seen = max(self._end_seen, message.offset() or 0)
                else:
                    self._fail(error)
        except BaseException:
            self._ahead, self._given, self.reached = [], -1, -1  # The next read seeks.
            raise
        if not self._ahead:
            self.reached = max(self.reached, self._end_seen)

    def _wait(self, end: int) -> None:
        """Wait until something is there or nothing is before `end`."""
        give_up_s = self._clock.monotonic_s() + self._answer_s_max
        while not self._ahead and self.reached < end:
            self._take(_POLL_S)
            if not self._ahead and self._clock.monotonic_s() > give_up_s:
                self._given = self.reached = -1
                raise Unavailable(
                    f"Kafka topic {self._place.topic!r}, partition {self._place.number}, has "
                    f"messages before offset {end}, but none came in {self._answer_s_max} s.",
                    retry_after_s=1.0,
                )

    def _give(self, messages_max: int, bytes_max: int) -> list[Message]:
        given, self._ahead = _cut(self._ahead, messages_max, bytes_max)
        if given:
            self._given = (given[-1].offset() or 0) + 1
            self.reached = self._given if self._ahead else max(self._given, self._end_seen)
        return given

    def _fail(self, error: KafkaError) -> None:
        what = f"Kafka topic {self._place.topic!r}, partition {self._place.number}, is read"
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            first, end = self._topics.ends(self._place)
            if self._given < first:
                raise Trimmed(
                    f"{what} after position {self._given}, but it begins at {first} now.",
                    topic=self._place.topic,
                    after=self._given,
                    trimmed=first,
                )
            if self._given > end:
                raise Unavailable(f"{what} after position {self._given}, but it ends at {end}.")
            self._seek(self._given)  # It was told of where the reader was before.
            return
        raise explain(error, what) from KafkaException(error)


class ReaderPool:
    """Readers of one partition: the writer's goes on while a live frame reads elsewhere."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[PartitionReader] = []
        self._is_closed = False

    def take(self, after: int) -> PartitionReader:
        """A reader for this call alone; `give_back` it."""
        with self._lock:
            for reader in self._idle:
                if reader.is_at(after):
                    self._idle.remove(reader)
                    return reader
            if len(self._idle) >= _READERS_KEPT:
                return self._idle.pop(0)
        reader = self._make()
        assert isinstance(reader, PartitionReader)  # noqa: S101 for mypy
        return reader

    def give_back(self, reader: PartitionReader) -> None:
        with self._lock:
            if len(self._idle) < _READERS_KEPT and not self._is_closed:
                self._idle.append(reader)
                return
        reader.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()


def _timestamp(message: Message) -> tuple[int, int]:
    return message.timestamp()


def _cut(
    messages: list[Message], messages_max: int, bytes_max: int
) -> tuple[list[Message], list[Message]]:
    """The longest beginning within the bounds, at least one message, and the rest."""
    if len(messages) <= messages_max and sum(map(len, messages)) <= bytes_max:
        return messages, []
    total = 0
    for count, size in enumerate(map(len, messages)):
        total += size
        if count and (total > bytes_max or count == messages_max):
            return messages[:count], messages[count:]
    return messages, []
