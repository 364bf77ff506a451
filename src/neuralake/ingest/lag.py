"""How far tables are behind what was acknowledged, read from the queue and the tables' logs.

The queue and the log tell it, not the writer: a writer that stands still says nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from neuralake.catalog import Catalog
from neuralake.clock import Clock
from neuralake.errors import NeuralakeError
from neuralake.ingest.committed import Watches
from neuralake.tables import DeltaTable
from neuralake.writer import stream_tables

__all__ = ["Lag", "Lags"]

# Whoever asks more often gets the same answer: reading logs costs requests to the store.
_KEPT_S = 1.0


@dataclass(frozen=True, slots=True)
class Lag:
    """One stream table at one moment."""

    table: str
    """`database.table`."""
    rows: int = 0
    """Acknowledged rows that are not in the table; over Kafka, messages."""
    bytes: int = 0
    """Their bytes in the queue; 0 over Kafka, which does not tell."""
    seconds: float = 0.0
    """Age of the oldest of them."""
    version: int | None = None
    """Newest version of the table; None: it is not there yet."""
    trouble: str | None = None
    """Why it could not be told; then the numbers say nothing."""


class Lags:
    """Looks at every stream table of a catalog. Use it from one event loop."""

    def __init__(self, catalog: Catalog, watches: Watches, *, clock: Clock) -> None:
        self._catalog, self._watches, self._clock = catalog, watches, clock
        self._found: list[Lag] = []
        self._looked_s = float("-inf")
        self._looking: asyncio.Lock = asyncio.Lock()

    async def look(self) -> list[Lag]:
        """The lags, not older than a second."""
        async with self._looking:
            if self._clock.monotonic_s() - self._looked_s >= _KEPT_S:
                self._found = await asyncio.to_thread(self._look)
                self._looked_s = self._clock.monotonic_s()
            return self._found

    def _look(self) -> list[Lag]:
        return [self._safely(topic, table) for topic, table in stream_tables(self._catalog)]

    def _safely(self, topic: str, table: DeltaTable) -> Lag:
        try:
            return self._lag(topic, table)
        except NeuralakeError as error:  # One table in trouble hides no other.
            return Lag(topic, trouble=error.message)

    def _lag(self, topic: str, table: DeltaTable) -> Lag:
        queue = self._catalog.queue_of(table)
        names = queue.partitions(topic)
        committed = self._watches.of(table).look_now(names)
        # After the log: what is committed in between is counted as waiting, never the other way.
        backlogs = [queue.backlog(name, after=committed.positions[name]) for name in names]
        waiting_since_s = [found.oldest_s for found in backlogs if found.oldest_s is not None]
        now_s = self._clock.now_s()
        return Lag(
            topic,
            rows=sum(found.rows for found in backlogs),
            bytes=sum(found.bytes for found in backlogs),
            seconds=max(0.0, now_s - min(waiting_since_s)) if waiting_since_s else 0.0,
            version=committed.version,
        )
