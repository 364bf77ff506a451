"""Run the writers of a catalog's stream tables, one thread a table, until told to stop.

Each thread is on its own: a table that needs a person logs why and is tried again at a slow pace,
while the others go on. On stop, what is already acknowledged is committed first, within a bound;
what remains then is in the queue for the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.delta import STREAM_PROPERTIES, TableLog, clustering_properties, create_table
from neuralake.errors import Unavailable, UnknownName, suggestion
from neuralake.queue.topic import topic_of
from neuralake.tables import DeltaTable
from neuralake.telemetry import Telemetry
from neuralake.writer.flush import FlushLimits
from neuralake.writer.topic_writer import TopicWriter
from neuralake.writer.trouble import Trouble

__all__ = ["run_writer", "stream_tables"]

# A store or queue that does not answer is asked again soon; what needs a person, slowly.
_RETRY_S = 0.5
_ATTENTION_RETRY_S = 10.0
# An idle table is polled at most this much slower than `poll_ms`.
_IDLE_FACTOR_MAX = 4
_IDLE_AFTER_POLLS = 200
_DRAIN_S_MAX = 20.0


def stream_tables(
    catalog: Catalog, names: Sequence[str] | None = None
) -> list[tuple[str, DeltaTable]]:
    """`(topic, definition)` of every table with a stream, or of the `names` (`database.table`).

    Raises:
        UnknownName: one of `names` is not a stream table of the catalog.
    """
    found = {
        topic_of(database, definition.name): definition
        for database, definition in catalog.definitions()
        if isinstance(definition, DeltaTable) and definition.stream is not None
    }
    for name in names or ():
        if name not in found:
            raise UnknownName(
                f"No stream table {name!r}.{suggestion(name, list(found))} "
                f"The catalog has: {', '.join(found) or 'none'}.",
                kind="stream table",
                name=name,
                known=list(found),
            )
    return [(topic, table) for topic, table in found.items() if not names or topic in names]


def run_writer(
    catalog: Catalog,
    *,
    stop: threading.Event,
    tables: Sequence[str] | None = None,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> None:
    """Write until `stop` is set, then drain; returns when every thread has ended."""
    loops = [
        _TopicLoop(catalog, topic, table, clock or SystemClock(), telemetry or Telemetry())
        for topic, table in stream_tables(catalog, tables)
    ]
    threads = [
        threading.Thread(target=loop.run, args=(stop,), name=f"write {loop.topic}", daemon=True)
        for loop in loops
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _TopicLoop:
    def __init__(
        self, catalog: Catalog, topic: str, table: DeltaTable, clock: Clock, telemetry: Telemetry
    ) -> None:
        self.topic = topic
        self._catalog, self._table = catalog, table
        self._clock, self._telemetry = clock, telemetry
        self._writer: TopicWriter | None = None
        self._trouble = Trouble(topic, clock=clock)

    def run(self, stop: threading.Event) -> None:
        idle_polls = 0
        while not stop.is_set():
            pause_s = self._step_safely()
            if pause_s is None:
                writer = self._writer
                idle_polls = 0 if writer and writer.waiting_rows else idle_polls + 1
                pause_s = self._poll_s(idle_polls)
            self._clock.wait_s(pause_s, stop)
        self._drain()

    def _poll_s(self, idle_polls: int) -> float:
        factor = min(_IDLE_FACTOR_MAX, 1 + idle_polls // _IDLE_AFTER_POLLS)
        return factor * self._catalog.settings.writer.poll_ms / 1000

    def _step_safely(self, *, flush: bool = False) -> float | None:
        """One step; after an error the seconds to wait before the next try, else None."""
        try:
            if self._writer is None:
                self._writer = self._open()
            self._writer.step(flush=flush)
        except Exception as error:  # noqa: BLE001 the edge of a thread: one table never stops others
            self._writer = None  # What it holds in memory is in the queue; read it again.
            self._telemetry.count("writer_errors", topic=self.topic, kind=type(error).__name__)
            retry_s = _RETRY_S if isinstance(error, Unavailable) else _ATTENTION_RETRY_S
            self._trouble.tell(error, retry_s=retry_s)
            return retry_s
        self._trouble.over()
        return None

    def _open(self) -> TopicWriter:
        store = self._catalog.store_of(self._table)
        create_table(
            store,
            self._table.schema,
            partition_by=self._table.partition_by,
            description=self._table.description,
            properties={**STREAM_PROPERTIES, **clustering_properties(self._table.cluster_by)},
        )
        settings, stream = self._catalog.settings, self._table.stream
        assert stream is not None  # noqa: S101 stream_tables chose it for this; for mypy
        return TopicWriter(
            self._catalog.queue(),
            self.topic,
            TableLog.open(store, clock=self._clock),
            FlushLimits.of(stream, settings.writer),
            grace_s=settings.queue.grace_s,
            kept_bytes_max=settings.queue.bytes_max // (2 * len(stream_tables(self._catalog))),
            clock=self._clock,
            telemetry=self._telemetry,
        )

    def _drain(self) -> None:
        deadline_s = self._clock.monotonic_s() + _DRAIN_S_MAX
        while self._clock.monotonic_s() < deadline_s:
            failed = self._step_safely(flush=True) is not None
            if failed or self._writer is None:
                return
            topic = self._catalog.queue().bounds(self.topic)
            if self._writer.position >= topic.last:
                return
