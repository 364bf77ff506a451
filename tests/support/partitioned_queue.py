"""The queue in memory with two partitions a topic: what of Kafka matters to other stages."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import cycle

from neuralake.queue import Appended, MemoryQueue, ProducerSequence

__all__ = ["PartitionedQueue"]


class PartitionedQueue(MemoryQueue):
    """Appends take turns between the partitions `topic#0` and `topic#1`."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = cycle(range(2))
        self.claimed = [0, 1]
        """The partitions that `claim` gives."""

    def partitions(self, topic: str) -> list[str]:
        return [f"{topic}#{number}" for number in range(2)]

    def claim(self, topic: str) -> list[str]:
        return [f"{topic}#{number}" for number in self.claimed]

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
        partition = f"{topic}#{next(self._turns)}"
        return super().submit(
            partition, payload, rows, key=key, fingerprint=fingerprint, producer=producer
        )
