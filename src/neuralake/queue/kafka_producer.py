"""Stage envelopes on Kafka: acknowledged by all replicas that are in sync, repeated by none.

The producer is idempotent: what the library sends again after a lost answer is stored once. A
delivery that fails after minutes without an answer may still be stored, and says so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from neuralake.clock import Clock
from neuralake.errors import NeuralakeError, QueueFull
from neuralake.queue.kafka_connection import explain
from neuralake.queue.protocol import Appended, check_same

__all__ = ["ENVELOPE_BYTES_MAX", "ROWS_HEADER", "KafkaProducer"]

ENVELOPE_BYTES_MAX = 96 * 1024 * 1024
ROWS_HEADER = "neuralake-rows"
_KEY_HEADER = "neuralake-key"
# Some 200 MB when full; then the oldest is forgotten before its time.
_KEYS_MAX = 1_000_000
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that is being stored, or was."""

    future: Future[Appended]
    submitted_s: float
    fingerprint: bytes | None


class KafkaProducer:
    """Produces for every topic of one lake. Use it from any thread."""

    def __init__(
        self,
        config: dict[str, Any],
        *,
        clock: Clock,
        waiting_bytes_max: int,
        delivery_s_max: float,
        keys_retention_s: float,
    ) -> None:
        self._clock, self._keys_retention_s = clock, keys_retention_s
        self._producer = Producer(
            config
            | {
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "zstd",
                # Appends of one moment share a request, as they share an fsync elsewhere.
                "linger.ms": 1,
                "message.max.bytes": ENVELOPE_BYTES_MAX,
                "message.timeout.ms": int(delivery_s_max * 1000),
                "queue.buffering.max.kbytes": max(1024, min(waiting_bytes_max // 1024, 2097151)),
            }
        )
        self._lock = threading.Lock()
        self._keys: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._turn = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-deliveries", daemon=True)
        self._thread.start()

    def submit(
        self,
        topic: str,
        partitions: list[str],
        kafka_topic: str,
        payload: bytes,
        rows: int,
        *,
        key: str | None,
        fingerprint: bytes | None,
        together: str | None,
    ) -> Future[Appended]:
        """As `Queue.submit`; the partitions are those of the Kafka topic, by number.

        What has the same `together` goes to the same partition.
        """
        with self._lock:
            if key is not None and (known := self._known(topic, key)):
                return _repeated(topic, key, known, fingerprint)
            number = self._choose(together, len(partitions))
            future: Future[Appended] = Future()
            headers: list[tuple[str, str | bytes | None]] = [(ROWS_HEADER, str(rows).encode())]
            if key is not None:
                headers.append((_KEY_HEADER, key.encode()))
                self._keys[topic, key] = _Known(future, self._clock.monotonic_s(), fingerprint)
            try:
                self._producer.produce(
                    kafka_topic,
                    value=payload,
                    partition=number,
                    headers=headers,
                    on_delivery=lambda error, message: self._delivered(
                        future, (topic, key), partitions[number], error, message
                    ),
                )
            except (BufferError, KafkaException) as error:
                self._keys.pop((topic, key or ""), None)
                future.set_exception(_refused(error, topic))
            return future

    def close(self) -> None:
        """Wait until all that was submitted is delivered or failed."""
        self._producer.flush()
        self._stop.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(_POLL_S)

    def _choose(self, together: str | None, count: int) -> int:
        if together is not None:
            return crc32(together.encode()) % count
        self._turn += 1
        return self._turn % count

    def _delivered(
        self,
        future: Future[Appended],
        known_as: tuple[str, str | None],
        partition: str,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        if error is None:
            offset = message.offset() or 0
            future.set_result(Appended(offset + 1, repeated=False, partition=partition))
            return
        topic, key = known_as
        if key is not None:
            with self._lock:
                self._keys.pop((topic, key), None)
        failed = explain(error, f"Rows of {topic!r} are stored")
        # Whoever repeats them should know that they may be there twice.
        failed.facts["may_be_stored"] = error.code() == KafkaError._MSG_TIMED_OUT
        future.set_exception(failed)

    def _known(self, topic: str, key: str) -> _Known | None:
        forgotten_s = self._clock.monotonic_s() - self._keys_retention_s
        while self._keys:
            oldest = next(iter(self._keys.values()))
            if oldest.submitted_s >= forgotten_s and len(self._keys) < _KEYS_MAX:
                break
            self._keys.popitem(last=False)
        return self._keys.get((topic, key))


def _repeated(topic: str, key: str, known: _Known, fingerprint: bytes | None) -> Future[Appended]:
    """The answer to a key that is known: what becomes of the first, as a repeat."""
    answer: Future[Appended] = Future()

    def tell(first: Future[Appended]) -> None:
        try:
            appended = first.result()
            check_same(topic, key, appended.position, first=known.fingerprint, again=fingerprint)
        except NeuralakeError as error:
            answer.set_exception(error)
        else:
            answer.set_result(Appended(appended.position, True, appended.partition))

    known.future.add_done_callback(tell)
    return answer


def _refused(error: BufferError | KafkaException, topic: str) -> NeuralakeError:
    if isinstance(error, BufferError):
        return QueueFull(
            f"Rows of {topic!r} are not stored: those before them still wait for Kafka's brokers. "
            f"Send the same again when they have been taken.",
            topic=topic,
            retry_after_s=1.0,
        )
    return explain(error, f"Rows of {topic!r} are stored")
