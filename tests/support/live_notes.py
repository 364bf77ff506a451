"""The stream table `lab.notes` of `ingest_lake`, its rows, and a writer of it that steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from ingest_lake import NOTES, arrow_stream

from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.clock import SystemClock
from neuralake.queue import Queue
from neuralake.writer import FlushLimits, TopicWriter

__all__ = ["TOPIC", "Traffic", "payload", "running", "send", "trim", "writer"]

TOPIC = "lab.notes"
# As the platform does; a fast writer would leave a thousand files.
_COMPACT_EVERY = 20
_LIMITS = FlushLimits(age_ms_max=100, rows_max=1000, bytes_max=1_000_000)


def payload(*texts: str) -> bytes:
    """One envelope of notes, by two authors in turn."""
    authors = [("ann", "bob")[number % 2] for number in range(len(texts))]
    return arrow_stream(pa.table({"author": authors, "text": texts}, schema=NOTES))


def send(queue: Queue, *texts: str) -> int:
    """Acknowledge one envelope; its position."""
    return queue.append(TOPIC, payload(*texts), len(texts)).position


def writer(catalog: Catalog) -> TopicWriter:
    """A writer that trims nothing; the table is made if it is not there."""
    store = catalog.store_of(catalog.definition("lab", "notes"))
    delta.create_table(store, NOTES, partition_by=["author"])
    table = delta.TableLog.open(store)
    return TopicWriter(catalog.queue(), TOPIC, table, _LIMITS, grace_s=float("inf"))


def trim(queue: Queue, through: int) -> None:
    """Whatever its age."""
    queue.trim(TOPIC, through=through, appended_before_s=float("inf"))


@contextmanager
def running(jobs: Sequence[Callable[[], object]]) -> Iterator[list[BaseException]]:
    """Each job again and again in a thread of its own, until it fails.

    Their failures are in the list that is given; the first is raised at the end.
    """
    stop, failures = threading.Event(), list[BaseException]()

    def run(job: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


class Traffic:
    """Rows that come, are committed, and are trimmed four commits later; files are compacted.

    Four: a reader tries five times, and the machine may let the writer run more often than it.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.sent = 0
        """Numbered texts that are acknowledged: `000000`, `000001`, …"""
        self._queue, self._writer = catalog.queue(), writer(catalog)
        self._store = catalog.store_of(catalog.definition("lab", "notes"))
        self._committed = [0] * 5

    def produce(self) -> None:
        send(self._queue, f"{self.sent:06}", f"{self.sent + 1:06}")
        self.sent += 2

    def commit(self) -> None:
        self._writer.step(flush=True)
        if self._writer.position == self._committed[-1]:
            return
        self._committed.append(self._writer.position)
        trim(self._queue, self._committed[-5])
        if len(self._committed) % _COMPACT_EVERY == 0:
            delta.compact_once(self._store, target_bytes=1 << 20, files_min=2, clock=SystemClock())

    @property
    def is_trimmed(self) -> bool:
        """Whether what was committed has begun to go."""
        return self._committed[-5] > 0

    @property
    def jobs(self) -> list[Callable[[], object]]:
        """Both, for `running`."""
        return [self.produce, self.commit]
