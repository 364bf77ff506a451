"""Which partitions of a topic this process is to write: by a consumer group, which reads nothing.

The group shares partitions out and takes them from members that are not heard of. It keeps no
offsets: the table does. It is a saving of work, not a lock.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from neuralake.queue.kafka_connection import explain

__all__ = ["GroupMember"]

# Members learn from the answer to a heartbeat that partitions are shared out anew: one that a
# member gave up is nobody's until another hears of it.
_HEARTBEAT_MS_MAX = 500


class GroupMember:
    """A member of the group `name` for one topic, from its first `claim` until it is closed."""

    def __init__(self, config: dict[str, Any], name: str, topic: str, *, session_s: float) -> None:
        self._name, self._topic = name, topic
        self._lock = threading.Lock()
        self._mine: set[int] = set()
        self._consumer = Consumer(
            config
            | {
                "group.id": name,
                "enable.auto.commit": False,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(session_s * 1000),
                "heartbeat.interval.ms": min(int(session_s * 1000 / 4), _HEARTBEAT_MS_MAX),
                # A commit to a store that does not answer may be tried for a while.
                "max.poll.interval.ms": 600_000,
                "auto.offset.reset": "latest",
                # A member that comes a second late gets its share then; rows do not wait for it.
                "topic.metadata.refresh.interval.ms": 5000,
            }
        )
        self._consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def claim(self) -> list[int]:
        """The numbers of the partitions that are ours now; none until the group has met."""
        with self._lock:
            # Calls `_assigned` and `_revoked`; a message that slipped in before the pause is
            # dropped, as the readers read for themselves.
            message = self._consumer.poll(0.0)
            error = message.error() if message is not None else None
            if error is not None and error.code() not in (
                KafkaError._PARTITION_EOF,
                KafkaError._MAX_POLL_EXCEEDED,
            ):
                raise explain(error, f"The consumer group {self._name!r} is joined")
            return sorted(self._mine)

    def close(self) -> None:
        """Leave: the others get our partitions at once."""
        with self._lock, suppress(KafkaException):
            self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        at_end = [TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions]
        consumer.incremental_assign(at_end)
        if partitions:
            consumer.pause(partitions)
        self._mine |= {p.partition for p in partitions}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with suppress(KafkaException):  # What is lost is unassigned already.
            consumer.incremental_unassign(partitions)
        self._mine -= {p.partition for p in partitions}
