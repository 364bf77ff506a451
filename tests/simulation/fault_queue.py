"""The queue as one process sees it, and a check that it never forgets what no table holds."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from tests.simulation.world import Process, Violation

from neuralake.errors import Unavailable
from neuralake.queue import Appended, Backlog, Bounds, Envelope, ProducerSequence, Queue

if TYPE_CHECKING:
    from tests.simulation.lake import Lake

__all__ = ["FaultQueue"]


class FaultQueue:
    """`inner`, as `process` reaches it; see `Queue` for the methods."""

    def __init__(self, inner: Queue, process: Process, lake: Lake) -> None:
        self._inner, self._process, self._lake = inner, process, lake
        self._history, self._app_id = lake.history, lake.app_id
        self._random = process.world.random

    @property
    def id(self) -> str:
        return self._inner.id

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
        self._begin("append")
        appended = self._inner.append(
            topic, payload, rows, key=key, fingerprint=fingerprint, producer=producer
        )
        self._process.note(f"queue append: {appended}")
        self._history.ledger.queued(self._app_id, appended.position, payload)
        self._end()
        return appended

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
        raise NotImplementedError("Nobody in the simulation submits.")

    def partitions(self, topic: str) -> list[str]:
        return self._inner.partitions(topic)

    def claim(self, topic: str) -> list[str]:
        return self._inner.claim(topic)

    def release(self, topic: str) -> None:
        self._inner.release(topic)

    def read(
        self, partition: str, *, after: int, envelopes_max: int = 4, bytes_max: int = 1 << 20
    ) -> list[Envelope]:
        self._begin("read")
        envelopes = self._inner.read(
            partition, after=after, envelopes_max=min(envelopes_max, 4), bytes_max=bytes_max
        )
        self._end()
        return envelopes

    def backlog(self, partition: str, *, after: int) -> Backlog:
        return self._inner.backlog(partition, after=after)

    def bounds(self, partition: str) -> Bounds:
        self._begin("bounds")
        bounds = self._inner.bounds(partition)
        self._end()
        return bounds

    def trim(self, partition: str, *, through: int, appended_before_s: float) -> int:
        self._begin("trim")
        trimmed = self._inner.trim(partition, through=through, appended_before_s=appended_before_s)
        if trimmed:
            bounds = self._inner.bounds(partition)
            self._process.note(f"queue trimmed to {bounds.trimmed}")
            if bounds.trimmed > self._history.newest.txns.get(self._app_id, 0):
                raise Violation(
                    f"The queue is trimmed to {bounds.trimmed}, but the table is at "
                    f"{self._history.newest.txns.get(self._app_id, 0)}."
                )
        self._end()
        return trimmed

    def topics(self) -> list[str]:
        return self._inner.topics()

    def probe(self) -> None:
        self._inner.probe()

    def close(self) -> None:
        raise NotImplementedError("The queue of a simulation outlives every process.")

    def _begin(self, what: str) -> None:
        self._process.pause(self._lake.trouble.wait_s(self._random))
        if self._random.random() < self._lake.trouble.crash:
            self._process.note(f"queue {what}: CRASH before")
            self._process.crash()
        if self._random.random() < self._lake.trouble.error_before:
            self._process.note(f"queue {what}: fails")
            raise Unavailable("The queue does not answer.")

    def _end(self) -> None:
        self._process.pause(self._lake.trouble.wait_s(self._random))
        if self._random.random() < self._lake.trouble.crash:
            self._process.note("queue: CRASH after")
            self._process.crash()
