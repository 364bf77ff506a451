"""The queue on a Kafka cluster: rows that ingest stages there, and topics that others produce to.

A position is an offset and one. The table's `txn` is the only memory of what is committed: no
offset is ever committed to a consumer group, and readers seek. Partitions carry the topic's id in
their names, so a topic that was deleted and made again is another one. Aborted transactions are
never seen.

What this queue does not promise, and the embedded one does:

- An idempotency key is remembered by the process that stored it, not by others and not after a
  restart. The same is true of a producer's sequences, which are recognised like keys: nothing is
  refused for its number. A producer's rows of a topic go to one partition, in order.
- An append that fails by time may be stored nevertheless; `error.may_be_stored` says so.
- `trim` removes from topics of ours only. Of others' topics Kafka's own retention decides.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from pathlib import Path

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, TooLarge, UnknownName, UsageError
from neuralake.queue.kafka_connection import client_config
from neuralake.queue.kafka_group import GroupMember
from neuralake.queue.kafka_messages import KafkaMessages
from neuralake.queue.kafka_producer import ENVELOPE_BYTES_MAX, ROWS_HEADER, KafkaProducer
from neuralake.queue.kafka_reader import PartitionReader, ReaderPool
from neuralake.queue.kafka_topics import FoundTopic, KafkaTopics, Place
from neuralake.queue.limits import QueueLimits
from neuralake.queue.producers import ProducerSequence
from neuralake.queue.protocol import (
    KEYS_RETENTION_S,
    MESSAGES_MAX,
    READ_BYTES_MAX,
    READ_ENVELOPES_MAX,
    Appended,
    Backlog,
    Bounds,
    Envelope,
    check_append,
    check_kept,
    check_read,
)
from neuralake.settings import KafkaSettings

__all__ = ["KafkaQueue"]

# Three requests that are not answered, until a delivery has failed.
_DELIVERY_TRIES = 3


class KafkaQueue:
    """A `Queue` on the cluster that `settings` names. Opening it asks nothing of the cluster.

    Args:
        folder: relative paths of files with secrets are seen from here.
        foreign: topics that others produce to: the Kafka topic, by our topic. Nothing is appended
            to them or trimmed. Every other topic is ours, and made when it is first appended to.
        values_only: those of them of which nobody asks for keys, times or headers.
        bytes_max: payload bytes that may wait in this process for the brokers.

    Raises:
        SettingsError: there is no broker, or a file with secrets cannot be read.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        folder: Path = Path(),
        foreign: Mapping[str, str] | None = None,
        values_only: Collection[str] = (),
        clock: Clock | None = None,
        bytes_max: int = QueueLimits().whole.bytes,
        keys_retention_s: float = KEYS_RETENTION_S,
    ) -> None:
        self._settings, self._foreign = settings, dict(foreign or {})
        self._values_only = frozenset(values_only)
        self._clock = clock or SystemClock()
        self._config = client_config(settings, folder)
        self._bytes_max, self._keys_retention_s = bytes_max, keys_retention_s
        self._topics = KafkaTopics(
            self._config,
            clock=self._clock,
            answer_s_max=settings.answer_s_max,
            has_ids=settings.topic_identity == "id",
        )
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._readers: dict[str, ReaderPool] = {}
        self._members: dict[str, GroupMember] = {}
        self._closed = False

    @property
    def id(self) -> str:
        return self._topics.cluster()

    def partitions(self, topic: str) -> list[str]:
        self._check_open()
        name = self._kafka_name(topic)
        found = self._topics.find(name)
        if found is not None:
            return _names(topic, found)
        if topic in self._foreign:
            raise UnknownName(
                f"Kafka has no topic {name!r}, which {topic!r} is fed by.", kind="topic", name=name
            )
        return []

    def claim(self, topic: str) -> list[str]:
        names = self.partitions(topic)
        if not names:
            return []
        with self._lock:
            member = self._members.get(topic)
            if member is None:
                member = self._members[topic] = GroupMember(
                    self._config,
                    f"{self._settings.group}.{topic}",
                    self._kafka_name(topic),
                    session_s=self._settings.session_s,
                )
        return [names[number] for number in member.claim() if number < len(names)]

    def release(self, topic: str) -> None:
        with self._lock:
            member = self._members.pop(topic, None)
        if member is not None:
            member.close()

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
        self._check_open()
        if topic in self._foreign:
            raise UsageError(f"{topic!r} is fed by Kafka topic {self._foreign[topic]!r}.")
        future: Future[Appended] = Future()
        if len(payload) > ENVELOPE_BYTES_MAX:
            future.set_exception(
                TooLarge(
                    f"An envelope of {len(payload)} bytes for {topic!r} exceeds what a Kafka topic "
                    f"of ours takes ({ENVELOPE_BYTES_MAX}). Send fewer rows at once.",
                    limit=ENVELOPE_BYTES_MAX,
                    found=len(payload),
                )
            )
            return future
        name = self._kafka_name(topic)
        found = self._topics.make(
            name, partitions=self._settings.partitions, bytes_max=ENVELOPE_BYTES_MAX
        )
        if producer is not None:
            key = f"producer {producer.producer} {producer.sequence}"
        return self._producing().submit(
            topic,
            _names(topic, found),
            name,
            payload,
            rows,
            key=key,
            fingerprint=fingerprint,
            together=key if producer is None else producer.producer,
        )

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

    def read(
        self,
        partition: str,
        *,
        after: int,
        envelopes_max: int = READ_ENVELOPES_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Envelope]:
        check_read(after, envelopes_max)
        topic, place = self._place(partition)
        pool = self._pool(partition, place, values_only=topic in self._values_only)
        reader = pool.take(after)
        try:
            if not reader.is_at(after):
                first, end = self._topics.ends(place)
                check_kept(partition, after=after, trimmed=first)
                if after > end:
                    pool.give_back(reader)
                    return []
            is_foreign = topic in self._foreign
            messages_max = MESSAGES_MAX if is_foreign else envelopes_max
            found = reader.read(after, messages_max=messages_max, bytes_max=bytes_max)
            if found:
                # Looked at now: it may have been made anew since, and these be the new one's.
                self._place(partition, again=True)
            # Before it is given back: the next who takes it reads on.
            envelopes = (
                _as_one(found, reader.reached, after) if is_foreign else _envelopes(found, place)
            )
        except BaseException:
            reader.close()
            raise
        pool.give_back(reader)
        return envelopes

    def bounds(self, partition: str) -> Bounds:
        _, place = self._place(partition)
        first, end = self._topics.ends(place)
        return Bounds(last=end, trimmed=first, rows=end - first, bytes=0)

    def backlog(self, partition: str, *, after: int) -> Backlog:
        _, place = self._place(partition)
        first, end = self._topics.ends(place)
        after = max(after, first)
        found = (
            self.read(partition, after=after, envelopes_max=1, bytes_max=1) if after < end else []
        )
        # Without a payload and messages it says only that there is nothing up to its position.
        if not any(envelope.rows for envelope in found):
            return Backlog(rows=0, bytes=0, oldest_s=None)
        return Backlog(rows=end - after, bytes=0, oldest_s=found[0].appended_s)

    def trim(self, partition: str, *, through: int, appended_before_s: float) -> int:
        topic, place = self._place(partition)
        if topic in self._foreign:
            return 0
        first, end = self._topics.ends(place)
        until = min(through, end)
        if until > first and appended_before_s < math.inf:
            newer = self._topics.offset_at(place, max(0.0, appended_before_s))
            until = until if newer is None else min(until, newer)
        if until <= first:
            return 0
        self._topics.delete_before(place, until)
        return until - first

    def topics(self) -> list[str]:
        self._check_open()
        prefix, names = self._settings.topic_prefix, set(self._topics.names())
        ours = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        return sorted(ours | {topic for topic, name in self._foreign.items() if name in names})

    def probe(self) -> None:
        self.topics()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._producer is not None:
            self._producer.close()
        for member in self._members.values():
            member.close()
        for pool in self._readers.values():
            pool.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("The queue is closed.")

    def _kafka_name(self, topic: str) -> str:
        return self._foreign.get(topic) or f"{self._settings.topic_prefix}{topic}"

    def _place(self, partition: str, *, again: bool = False) -> tuple[str, Place]:
        """The topic of ours and the place on the cluster that a partition's name stands for.

        It is looked at anew if `again`, else as it was a moment ago.
        """
        self._check_open()
        topic, separator, rest = partition.rpartition("#")
        number, _, identity = rest.partition("@")
        if not separator or not number.isdecimal():
            raise UsageError(f"{partition!r} is no partition; partitions(topic) has their names.")
        name = self._kafka_name(topic)
        found = self._topics.find(name, again=again)
        if not again and (found is None or found.identity != identity):
            found = self._topics.find(name, again=True)
        if found is None or found.identity != identity or int(number) >= found.partitions:
            raise UnknownName(
                f"Kafka's topic {name!r} is gone or was made anew: {partition!r} is no part of it.",
                kind="partition",
                name=partition,
                known=[] if found is None else _names(topic, found),
            )
        return topic, Place(name, int(number))

    def _pool(self, partition: str, place: Place, *, values_only: bool) -> ReaderPool:
        def make() -> PartitionReader:
            return PartitionReader(
                self._config,
                place,
                self._topics,
                clock=self._clock,
                answer_s_max=self._settings.answer_s_max,
                values_only=values_only,
            )

        with self._lock:
            return self._readers.setdefault(partition, ReaderPool(make))

    def _producing(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                self._producer = KafkaProducer(
                    self._config,
                    clock=self._clock,
                    waiting_bytes_max=self._bytes_max,
                    delivery_s_max=_DELIVERY_TRIES * self._settings.answer_s_max,
                    keys_retention_s=self._keys_retention_s,
                )
            return self._producer


def _names(topic: str, found: FoundTopic) -> list[str]:
    suffix = f"@{found.identity}" if found.identity else ""
    return [f"{topic}#{number}{suffix}" for number in range(found.partitions)]


def _envelopes(found: KafkaMessages, place: Place) -> list[Envelope]:
    return [
        Envelope(position, payload or b"", _rows(dict(headers), position, place), (at or 0) / 1000)
        for position, payload, headers, at in zip(
            found.positions(), found.values(), found.headers(), found.timestamps_ms(), strict=True
        )
    ]


def _rows(headers: Mapping[str, bytes | None], position: int, place: Place) -> int:
    try:
        return int(headers[ROWS_HEADER] or b"")
    except (KeyError, ValueError) as error:
        raise NeedsAttention(
            f"A message at offset {position - 1} of {place.topic!r} is not neuralake's: "
            f"it has no {ROWS_HEADER} header. Only ingest may produce to this topic; define a "
            f"table with Stream(kafka=KafkaTopic(...)) for what others produce.",
            position=position - 1,
        ) from error


def _as_one(found: KafkaMessages, reached: int, after: int) -> list[Envelope]:
    """The messages as one envelope; without any, where reading goes on if that is further."""
    if not found:
        return [Envelope(reached, b"", 0, 0.0)] if reached > after else []
    return [Envelope(reached, b"", len(found), found.first_s, found)]
