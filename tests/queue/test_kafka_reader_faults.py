"""Faults in the middle of a read, which no broker makes when asked: a scripted consumer makes them.

Only the client library's consumer is played here; what is read from real brokers is tested in
`test_queue_kafka.py` and in tests/services.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from neuralake.clock import ManualClock
from neuralake.errors import Unavailable
from neuralake.queue import kafka_messages, kafka_reader
from neuralake.queue.kafka_reader import PartitionReader
from neuralake.queue.kafka_topics import KafkaTopics, Place


@dataclass
class Said:
    """A message of the library, as far as it is looked at."""

    at: int
    payload: bytes | None = None
    fault: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.fault

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes | None:
        return self.payload

    def key(self) -> bytes:
        return b"key of %d" % self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at

    def headers(self) -> list[tuple[str, bytes]]:
        return [("of", b"%d" % self.at)]

    def __len__(self) -> int:
        return len(self.payload or b"")


class ScriptedConsumer:
    """Fetches some of `log` now and then, and puts faults between."""

    def __init__(self, log: dict[int, bytes | None], end: int, dice: random.Random) -> None:
        self.log, self.end, self.dice, self.offsets = log, end, dice, sorted(log)
        self.at, self.fetched, self.is_end_told = 0, list[Said](), False

    def assign(self, places: list[TopicPartition]) -> None:
        self.at, self.fetched, self.is_end_told = places[0].offset, [], False

    def _fetch(self) -> None:
        for _ in range(self.dice.choice([0, 1, 3, 20, 700])):
            if self.dice.random() < 0.003:
                self.fetched.append(Said(0, fault=KafkaError(KafkaError._TRANSPORT)))
            place = bisect_left(self.offsets, self.at)
            if place == len(self.offsets):
                if not self.is_end_told:
                    end = KafkaError(KafkaError._PARTITION_EOF)
                    self.fetched.append(Said(self.end, fault=end))
                    self.is_end_told = True
                return
            offset = self.offsets[place]
            self.fetched.append(Said(offset, self.log[offset]))
            self.at = offset + 1

    def consume(self, count: int, _: float) -> list[Said]:
        if self.dice.random() < 0.6:
            self._fetch()
        given, self.fetched = self.fetched[:count], self.fetched[count:]
        return given

    def poll(self, _: float) -> Said | None:
        if not self.fetched:
            self._fetch()
        return self.fetched.pop(0) if self.fetched else None

    def close(self) -> None: ...


class Ends(KafkaTopics):
    """The ends of the one partition that there is."""

    def __init__(self, end: int) -> None:
        self._the_end = end

    def end(self, place: Place) -> int:
        return self._the_end

    def ends(self, place: Place) -> tuple[int, int]:
        return 0, self._the_end


class ImpatientClock(ManualClock):
    def monotonic_s(self) -> float:
        self.advance(0.001)
        return super().monotonic_s()


def reader_of(consumer: ScriptedConsumer, monkeypatch: pytest.MonkeyPatch) -> PartitionReader:
    monkeypatch.setattr(kafka_reader, "Consumer", lambda _: consumer)
    for module in (kafka_reader, kafka_messages):
        monkeypatch.setattr(module, "Message", Said)
    return PartitionReader(
        {}, Place("t", 0), Ends(consumer.end), clock=ImpatientClock(), answer_s_max=5
    )


@pytest.mark.parametrize("seed", range(20))
def test_whatever_fails_each_message_is_read_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gaps, tombstones, faults and ends between messages, and bounds of each kind."""
    dice = random.Random(seed)
    end = dice.choice([5, 300, 2500])
    density = dice.choice([1.0, 0.9, 0.3])
    log = {
        offset: None if dice.random() < 0.1 else b"x" * dice.choice([0, 1, 5, 50])
        for offset in range(end)
        if dice.random() < density
    }
    reader = reader_of(ScriptedConsumer(log, end, dice), monkeypatch)

    after, positions, values = 0, list[int](), list[bytes | None]()
    while after < end:
        bounds: dict[str, Any] = {
            "messages_max": dice.choice([1, 2, 499, 500, 501, 10_000]),
            "bytes_max": dice.choice([1, 100, 10**6]),
        }
        try:
            found = reader.read(after, **bounds)
        except Unavailable:
            continue
        assert len(found) <= bounds["messages_max"]
        assert found.size <= bounds["bytes_max"] or len(found) == 1
        assert found.keys() == [b"key of %d" % (position - 1) for position in found.positions()]
        positions += found.positions()
        values += found.values()
        after = reader.reached

    assert positions == [offset + 1 for offset in log]
    assert values == list(log.values())


def test_what_is_before_a_lasting_fault_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ScriptedConsumer):
        """Gives 600 messages, and then the fault, each time."""

        def consume(self, count: int, _: float) -> list[Said]:
            fault = Said(0, fault=KafkaError(KafkaError._TRANSPORT))
            given = [Said(offset, b"-") for offset in range(self.at, min(self.at + count, 600))]
            self.at += len(given)
            return given or [fault]

    reader = reader_of(Broken({}, 1000, random.Random(0)), monkeypatch)

    found = reader.read(0, messages_max=10_000, bytes_max=10**6)

    assert found.positions() == list(range(1, 601))
    with pytest.raises(Unavailable):
        reader.read(reader.reached, messages_max=10_000, bytes_max=10**6)
