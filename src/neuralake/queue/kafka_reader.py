"""Read one partition of Kafka from any offset, without a consumer group.

Positions are offsets and one, so that position 0 is the beginning. What cannot be seen (aborted
transactions, their marks, what compaction removed) leaves gaps. The client library fetches ahead
in threads of its own; we take what it has, and ask the broker only if that is nothing.
"""

from __future__ import annotations

import threading
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from neuralake.clock import Clock
from neuralake.errors import NeuralakeError, Trimmed, Unavailable
from neuralake.queue.kafka_connection import explain
from neuralake.queue.kafka_messages import KafkaMessages
from neuralake.queue.kafka_topics import KafkaTopics, Place

__all__ = ["PartitionReader", "ReaderPool"]

# Fetched ahead per reader: enough for a commit's worth, and not a partition's.
_AHEAD_KBYTES_MAX = 64 * 1024
_READERS_KEPT = 2
# Messages that are objects at the same time: more than 700 wake the garbage collector.
_AT_ONCE_MAX = 500
_POLL_S = 0.05
# Rows that come now are here sooner than the broker could be asked about them.
_IDLE_S = 0.02


class PartitionReader:
    """Reads a partition from where the last read ended, or from elsewhere at the price of a seek.

    Use it from one thread at a time.

    Args:
        values_only: nobody will ask for keys, times or headers of what is read.
    """

    def __init__(
        self,
        config: dict[str, Any],
        place: Place,
        topics: KafkaTopics,
        *,
        clock: Clock,
        answer_s_max: float,
        values_only: bool = False,
    ) -> None:
        self._place, self._topics, self._values_only = place, topics, values_only
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
        """What came and was not given, since it was more than the last read could take."""
        self._given = -1
        """Behind all that was given: nothing readable is between here and `reached`."""
        self._end_seen = -1
        self._is_lost = True
        """The next read seeks."""
        self.reached = -1
        """The offset behind all that was given, and behind what nobody can read after it."""

    def is_at(self, after: int) -> bool:
        """Whether a read after position `after` goes on from the last one."""
        return not self._is_lost and self._given <= after <= self.reached

    def read(self, after: int, *, messages_max: int, bytes_max: int) -> KafkaMessages:
        """Messages past position `after`, in order; none only if there are none.

        Raises:
            Trimmed: some were removed.
            Unavailable: the brokers do not answer.
        """
        if not self.is_at(after):
            self._seek(after)
        limits = messages_max, bytes_max
        return self._take(*limits, wait_s=_IDLE_S) or self._wait(
            *limits, end=self._topics.end(self._place)
        )

    def close(self) -> None:
        self._consumer.close()

    def _seek(self, after: int) -> None:
        self._ahead, self._given, self._end_seen, self.reached = [], after, -1, after
        self._is_lost = False
        self._consumer.assign([TopicPartition(self._place.topic, self._place.number, after)])

    def _take(self, messages_max: int, bytes_max: int, *, wait_s: float) -> KafkaMessages:
        """What the library has fetched, within the bounds; waits for the first message only."""
        found = KafkaMessages(values_only=self._values_only)
        came, asked = self._ahead, 0
        try:
            while True:
                if came:
                    self._put(came, found, messages_max - len(found), bytes_max - found.size)
                if self._ahead or len(came) < asked or len(found) == messages_max:
                    break
                asked = min(_AT_ONCE_MAX, messages_max - len(found))
                came = self._consumed(asked, 0.0 if found else wait_s)
        except BaseException as error:
            self._ahead, self._is_lost = [], True
            if not found or not isinstance(error, NeuralakeError):
                raise
            return found  # What is before the fault; the next read meets it again.
        # What is between the last message and the end nobody will ever read.
        self.reached = self._given if self._ahead else max(self.reached, self._end_seen)
        return found

    def _put(
        self, came: list[Message], found: KafkaMessages, messages_max: int, bytes_max: int
    ) -> None:
        """Give the beginning of `came` that is within the bounds; the rest is kept."""
        count, size = _fitting(came, messages_max, bytes_max)
        if not count and not found:
            count, size = 1, len(came[0])  # One at least, or nobody ever got past it.
        if count:
            found.add(came[:count], size=size)
            self._given = self.reached = found.last_offset + 1
        self._ahead = came[count:]

    def _consumed(self, count: int, wait_s: float) -> list[Message]:
        """Up to `count` messages that the library has; what else it tells is heeded."""
        found = self._consumer.consume(count, 0.0)
        if not found and wait_s and (first := self._consumer.poll(wait_s)) is not None:
            found = [first, *(self._consumer.consume(count - 1, 0.0) if count > 1 else [])]
        if not any(map(Message.error, found)):
            return found
        messages = []
        for message in found:
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                # Here, not at the last message: what is between is of no reader.
                self._end_seen = max(self._end_seen, message.offset() or 0)
            else:
                self._fail(error)
                return []  # We seek: what came will come again.
        return messages

    def _wait(self, messages_max: int, bytes_max: int, *, end: int) -> KafkaMessages:
        """What comes; none if nothing is before `end`."""
        give_up_s = self._clock.monotonic_s() + self._answer_s_max
        while self.reached < end:
            if found := self._take(messages_max, bytes_max, wait_s=_POLL_S):
                return found
            if self._clock.monotonic_s() > give_up_s:
                self._is_lost = True
                raise Unavailable(
                    f"Kafka topic {self._place.topic!r}, partition {self._place.number}, has "
                    f"messages before offset {end}, but none came in {self._answer_s_max} s.",
                    retry_after_s=1.0,
                )
        return KafkaMessages(values_only=self._values_only)

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


def _fitting(messages: list[Message], messages_max: int, bytes_max: int) -> tuple[int, int]:
    """How many messages, of the beginning, are within the bounds, and how many bytes they are."""
    size = sum(map(len, messages))  # The length of a message is its value's.
    if len(messages) <= messages_max and size <= bytes_max:
        return len(messages), size
    size = 0
    for count, length in enumerate(map(len, messages)):
        if count == messages_max or size + length > bytes_max:
            return count, size
        size += length
    return len(messages), size
