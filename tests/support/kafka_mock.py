"""The client library's own mock of a Kafka cluster, in this process: up at once, gone with it.

It keeps little, has no topic ids, does not make topics when asked, and no transactions: good for
the plain way only. What depends on a broker is tested against a real one (tests/services).
"""

from __future__ import annotations

import uuid

from confluent_kafka import Producer

from neuralake.settings import KafkaSettings

__all__ = ["MockKafka"]

PARTITIONS = 4  # What the mock gives every topic.


class MockKafka:
    """One broker on a port of 127.0.0.1."""

    def __init__(self) -> None:
        quiet = {"bootstrap.servers": "mock", "log_level": 0}
        self._cluster = Producer(quiet | {"test.mock.num.brokers": 1})
        (broker,) = self._cluster.list_topics(timeout=60).brokers.values()
        self.address = f"{broker.host}:{broker.port}"
        self._producer = Producer({"bootstrap.servers": self.address, "log_level": 0})

    def settings(self, **changes: object) -> KafkaSettings:
        """For a lake of this call's own."""
        prefix = f"{uuid.uuid4().hex[:8]}."
        given = {"brokers": self.address, "topic_identity": "name", "topic_prefix": prefix}
        return KafkaSettings(**(given | changes))  # type: ignore[arg-type]

    def make_topic(self, name: str = "") -> str:
        """A topic, empty, with `PARTITIONS` partitions."""
        name = name or f"t-{uuid.uuid4().hex[:8]}"
        self._producer.list_topics(name, timeout=60)  # The mock makes what is asked for.
        return name

    def produce(
        self, topic: str, *values: bytes | None, partition: int = 0, **facts: object
    ) -> None:
        """Messages, stored when this returns."""
        for value in values:
            self._producer.produce(topic, value, partition=partition, **facts)  # type: ignore[arg-type]
        assert self._producer.flush(60) == 0
