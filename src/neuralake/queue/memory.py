"""The queue in memory: the same promises as the durable one, except that it ends with the process.

For tests and for trying things out. One lock; every call is done when it returns.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeuralakeError, UsageError
from neuralake.queue.limits import NOTHING, Amount, QueueLimits
from neuralake.queue.producers import (
    PRODUCERS_MAX,
    PRODUCERS_RETENTION_S,
    SEQUENCES_KEPT,
    ProducerSequence,
    Remembered,
    check_sequence,
)
from neuralake.queue.protocol import (
    KEYS_RETENTION_S,
    READ_BYTES_MAX,
    READ_ENVELOPES_MAX,
    Appended,
    Backlog,
    Bounds,
    Envelope,
    check_append,
    check_kept,
    check_read,
    check_same,
)

__all__ = ["MemoryQueue"]


_Producers = OrderedDict[tuple[str, str], dict[int, Remembered]]


@dataclass(slots=True)
class _Topic:
    trimmed: int = 0
    amount: Amount = NOTHING
    kept: list[Envelope] = field(default_factory=list)
    keys: dict[str, tuple[int, float, bytes | None]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return self.trimmed + len(self.kept)


class MemoryQueue:
    """A `Queue` whose contents live as long as the object."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        limits: QueueLimits | None = None,
        keys_retention_s: float = KEYS_RETENTION_S,
        producers_retention_s: float = PRODUCERS_RETENTION_S,
        producers_max: int = PRODUCERS_MAX,
    ) -> None:
        self._id = uuid.uuid4().hex
        self._clock = clock or SystemClock()
        self._limits = limits or QueueLimits()
        self._keys_retention_s = keys_retention_s
        self._producers_retention_s = producers_retention_s
        self._producers_max = producers_max
        self._lock = threading.Lock()
        # By topic and producer; who was quiet for longest comes first.
        self._producers: _Producers = OrderedDict()
        self._topics: dict[str, _Topic] = {}
        self._amount = NOTHING
        self._closed = False

    @property
    def id(self) -> str:
        return self._id

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
        check_append(topic, payload, rows, key, producer)
        future: Future[Appended] = Future()
        with self._lock:
            self._check_open()
            try:
                stored = self._store(topic, payload, rows, key, fingerprint, producer)
                future.set_result(stored)
            except NeuralakeError as error:
                future.set_exception(error)
        return future

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
        return self.submit(
            topic, payload, rows, key=key, fingerprint=fingerprint, producer=producer
        ).result()

    def partitions(self, topic: str) -> list[str]:
        return [topic]

    def claim(self, topic: str) -> list[str]:
        with self._lock:
            self._check_open()
        return [topic]

    def release(self, topic: str) -> None:
        pass

    def read(
        self,
        partition: str,
        *,
        after: int,
        envelopes_max: int = READ_ENVELOPES_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Envelope]:
        check_read(after, envelopes_max)
        with self._lock:
            self._check_open()
            found = self._topics.get(partition, _Topic())
            check_kept(partition, after=after, trimmed=found.trimmed)
            first = after - found.trimmed
            envelopes = found.kept[first : first + envelopes_max]
        total = 0
        for count, envelope in enumerate(envelopes):
            total += len(envelope.payload)
            if count and total > bytes_max:
                return envelopes[:count]
        return envelopes

    def bounds(self, partition: str) -> Bounds:
        with self._lock:
            self._check_open()
            found = self._topics.get(partition, _Topic())
            return Bounds(
                last=found.last,
                trimmed=found.trimmed,
                rows=found.amount.rows,
                bytes=found.amount.bytes,
            )

    def backlog(self, partition: str, *, after: int) -> Backlog:
        with self._lock:
            self._check_open()
            found = self._topics.get(partition, _Topic())
            left = found.kept[max(0, after - found.trimmed) :]
            return Backlog(
                rows=sum(envelope.rows for envelope in left),
                bytes=sum(len(envelope.payload) for envelope in left),
                oldest_s=left[0].appended_s if left else None,
            )

    def trim(self, partition: str, *, through: int, appended_before_s: float) -> int:
        with self._lock:
            self._check_open()
            found = self._topics.get(partition, _Topic())
            gone = list(
                takewhile(
                    lambda e: e.position <= through and e.appended_s < appended_before_s,
                    found.kept,
                )
            )
            del found.kept[: len(gone)]
            found.trimmed += len(gone)
            less = Amount(-sum(e.size for e in gone), -sum(e.rows for e in gone))
            found.amount, self._amount = found.amount.plus(less), self._amount.plus(less)
            return len(gone)

    def topics(self) -> list[str]:
        with self._lock:
            self._check_open()
            return sorted(self._topics)

    def probe(self) -> None:
        with self._lock:
            self._check_open()

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("The queue is closed.")

    def _store(
        self,
        topic: str,
        payload: bytes,
        rows: int,
        key: str | None,
        fingerprint: bytes | None,
        producer: ProducerSequence | None,
    ) -> Appended:
        now_s = self._clock.now_s()
        found = self._topics.get(topic, _Topic())
        forgotten_s = now_s - self._keys_retention_s
        if key is not None and key in found.keys:
            position, appended_s, first = found.keys[key]
            if appended_s >= forgotten_s:
                check_same(topic, key, position, first=first, again=fingerprint)
                return Appended(position, repeated=True, partition=topic)
        if producer is not None:
            first_position = check_sequence(
                topic,
                producer,
                self._producers.get((topic, producer.producer), {}),
                fingerprint=fingerprint,
                forgotten_s=now_s - self._producers_retention_s,
                queue_id=self._id,
            )
            if first_position is not None:
                return Appended(first_position, repeated=True, partition=topic)
        more = Amount(len(payload), rows)
        self._limits.check(topic, more, topic_kept=found.amount, kept=self._amount)
        self._topics[topic] = found
        found.kept.append(Envelope(found.last + 1, payload, rows, now_s))
        found.amount, self._amount = found.amount.plus(more), self._amount.plus(more)
        if key is not None:
            found.keys.pop(key, None)
            found.keys[key] = (found.last, now_s, fingerprint)
            # Insertion order is age: forget from the front, as far as it has expired.
            for old in [*takewhile(lambda k: found.keys[k][1] < forgotten_s, found.keys)]:
                del found.keys[old]
        if producer is not None:
            self._remember(topic, producer, Remembered(found.last, fingerprint, now_s))
        return Appended(found.last, repeated=False, partition=topic)

    def _remember(self, topic: str, producer: ProducerSequence, appended: Remembered) -> None:
        name = topic, producer.producer
        kept = self._producers.pop(name, {}) if producer.sequence > 1 else {}
        kept[producer.sequence] = appended
        kept.pop(producer.sequence - SEQUENCES_KEPT, None)
        self._producers.pop(name, None)
        self._producers[name] = kept
        while len(self._producers) > self._producers_max:
            self._producers.popitem(last=False)
