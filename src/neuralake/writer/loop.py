"""Run the writers of a catalog's stream tables, one thread a table, until told to stop.

Each thread is on its own: a table that needs a person logs why and is tried again at a slow pace,
while the others go on. On stop, what is already acknowledged is committed first, within a bound;
what remains then is in the queue for the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.delta import TableLog
from neuralake.errors import NeuralakeError, Unavailable, UnknownName, suggestion
from neuralake.queue.topic import app_id, labels_of, topic_of
from neuralake.records.envelopes import reader_of
from neuralake.records.letters import DeadLetter
from neuralake.settings import check_own_queue
from neuralake.tables import REJECTED_SUFFIX, DeltaTable, Stream
from neuralake.telemetry import Telemetry
from neuralake.writer.flush import FlushLimits
from neuralake.writer.rejected import RejectedTable
from neuralake.writer.stream_table import make_table
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
    """Write until `stop` is set, then drain; returns when every thread has ended.

    Raises:
        UsageError: the queue is another machine's.
        UnknownName: one of `tables` is no stream table.
    """
    check_own_queue(catalog.settings)
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
    """The thread of one table: steps the partitions that this process is to write, in turn."""

    def __init__(
        self, catalog: Catalog, topic: str, table: DeltaTable, clock: Clock, telemetry: Telemetry
    ) -> None:
        self.topic = topic
        self._catalog, self._table = catalog, table
        self._clock, self._telemetry = clock, telemetry
        self._partitions: dict[str, _PartitionStep] = {}
        self._trouble = Trouble(topic, clock=clock)

    def run(self, stop: threading.Event) -> None:
        idle_polls = 0
        while True:  # Once also if it is to stop already: what there is, is drained.
            pause_s = self._round()
            if pause_s is None:
                is_busy = any(step.waiting_rows for step in self._partitions.values())
                idle_polls = 0 if is_busy else idle_polls + 1
                pause_s = self._poll_s(idle_polls)
            if self._clock.wait_s(pause_s, stop):
                break
        self._drain()
        with suppress(NeuralakeError):  # Others get it when our time is over.
            self._catalog.queue_of(self._table).release(self.topic)

    def _poll_s(self, idle_polls: int) -> float:
        factor = min(_IDLE_FACTOR_MAX, 1 + idle_polls // _IDLE_AFTER_POLLS)
        return factor * self._catalog.settings.writer.poll_ms / 1000

    def _round(self) -> float | None:
        """Step every partition; if none can go on, the seconds until one may, else None."""
        try:
            claimed = self._catalog.queue_of(self._table).claim(self.topic)
        except Exception as error:  # noqa: BLE001 the edge of a thread: one table never stops others
            return _told(error, self._trouble, self._telemetry, self.topic)
        self._trouble.over()
        self._partitions = {
            name: self._partitions.get(name) or self._step_of(name) for name in claimed
        }
        pauses_s = [step.step_safely() for step in self._partitions.values()]
        if any(step.is_behind for step in self._partitions.values()):
            return 0.0
        waits_s = [pause_s for pause_s in pauses_s if pause_s is not None]
        return min(waits_s) if waits_s and len(waits_s) == len(pauses_s) else None

    def _step_of(self, partition: str) -> _PartitionStep:
        return _PartitionStep(
            partition, lambda: self._open(partition), clock=self._clock, telemetry=self._telemetry
        )

    def _open(self, partition: str) -> TopicWriter:
        store = make_table(self._catalog, self._table)
        settings, stream = self._catalog.settings, self._table.stream
        assert stream is not None  # noqa: S101 stream_tables chose it for this; for mypy
        queue = self._catalog.queue_of(self._table)
        return TopicWriter(
            queue,
            partition,
            TableLog.open(store, clock=self._clock),
            FlushLimits.of(stream, settings.writer),
            reader=reader_of(self._table, settings, name=self.topic),
            reject=RejectedTable(
                self._catalog.store_at(self._catalog.uri_of(self._table) + REJECTED_SUFFIX),
                partition=partition,
                app_id=app_id(queue.id, partition),
                clock=self._clock,
                source_of=_source_of(stream, partition),
            ).add,
            grace_s=settings.queue.grace_s,
            kept_max=self._catalog.queue_limits().crowded(
                self.topic, topics=len(stream_tables(self._catalog))
            ),
            clock=self._clock,
            telemetry=self._telemetry,
        )

    def _drain(self) -> None:
        deadline_s = self._clock.monotonic_s() + _DRAIN_S_MAX
        left = list(self._partitions.values())
        while left and self._clock.monotonic_s() < deadline_s:
            left = [step for step in left if step.flush_safely()]


def _source_of(stream: Stream, partition: str) -> Callable[[DeadLetter], str]:
    """Who sent a letter: of a Kafka message, its topic, partition and offset."""
    if stream.kafka is None:
        return lambda letter: letter.source
    topic, number = stream.kafka.name, partition.rpartition("#")[2].partition("@")[0]
    return lambda letter: f"kafka:{topic}/{number}/{letter.position - 1}"


class _PartitionStep:
    """The writer of one partition, opened anew after each trouble."""

    def __init__(
        self,
        partition: str,
        open_writer: Callable[[], TopicWriter],
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._partition, self._open = partition, open_writer
        self._clock, self._telemetry = clock, telemetry
        self._writer: TopicWriter | None = None
        self._rests_until_s = float("-inf")
        self._trouble = Trouble(partition, clock=clock)

    @property
    def waiting_rows(self) -> int:
        return self._writer.waiting_rows if self._writer else 0

    @property
    def is_behind(self) -> bool:
        return self._writer is not None and self._writer.is_behind

    def step_safely(self) -> float | None:
        """One step, unless it rests after an error; the seconds until the next try, else None."""
        rest_s = self._rests_until_s - self._clock.monotonic_s()
        return rest_s if rest_s > 0 else self._step(flush=False)

    def flush_safely(self) -> bool:
        """Commit what waits; whether there may be more that can be committed now."""
        if self._step(flush=True) is not None or self._writer is None:
            return False
        try:
            return self._writer.has_more()
        except NeuralakeError:
            return False  # It stays in the queue for the next start.

    def _step(self, *, flush: bool) -> float | None:
        try:
            if self._writer is None:
                self._writer = self._open()
            self._writer.step(flush=flush)
        except Exception as error:  # noqa: BLE001 the edge of a thread: one partition never stops others
            self._writer = None  # What it holds in memory is in the queue; read it again.
            pause_s = _told(error, self._trouble, self._telemetry, self._partition)
            self._rests_until_s = self._clock.monotonic_s() + pause_s
            return pause_s
        self._trouble.over()
        return None


def _told(error: Exception, trouble: Trouble, telemetry: Telemetry, topic: str) -> float:
    """Tell of `error`; the seconds to wait before the next try."""
    telemetry.count("writer_errors", 1, **labels_of(topic), kind=type(error).__name__)
    retry_s = _RETRY_S if isinstance(error, Unavailable) else _ATTENTION_RETRY_S
    trouble.tell(error, retry_s=retry_s)
    return retry_s
