"""Those who work on the table: they do what the platform's processes do, and check what it says.

Each is opened in a process and gives its rounds. What an actor must remember over its death is in
the table, in the queue, or in the object that makes it (its own disk, as it were).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from tests.simulation.lake import TOPIC, Lake, Round
from tests.simulation.ledger import Told
from tests.simulation.rows import ids_from, payload, table
from tests.simulation.world import Process, Violation

from neuralake import delta
from neuralake.batch import BatchWriter
from neuralake.delta import TableLog, Txn
from neuralake.delta.cleanup import cleanup
from neuralake.errors import CommitConflict, Unavailable
from neuralake.filters import Filter
from neuralake.writer import FlushLimits, TopicWriter

__all__ = ["Appender", "Compactor", "Job", "Maintenance", "Purge", "Sender", "Vacuum", "writer"]

_LIMITS = FlushLimits(age_ms_max=100, rows_max=10, bytes_max=1_000_000)
_GRACE_S = 60.0


@dataclass
class Sender:
    """Sends rows to the queue, again and again the same until they are acknowledged."""

    maker: int
    acknowledged: list[int] = field(default_factory=list)
    _serial: int = 0
    _pending: list[int] | None = None

    def __call__(self, lake: Lake, process: Process) -> Round:
        queue = lake.queue_of(process)

        def send() -> None:
            if self._pending is None:
                self._pending = ids_from(self.maker, self._serial, lake.world.random.randint(1, 4))
                self._serial += len(self._pending)
            ids = self._pending
            queue.append(TOPIC, payload(ids), len(ids), key=str(ids[0]))
            self.acknowledged += ids
            self._pending = None

        return send


def writer(lake: Lake, process: Process) -> Round:
    """The stream's writer, as its process runs it: opened anew after every error."""
    store, queue = lake.store(process), lake.queue_of(process)
    topic_writer: TopicWriter | None = None

    def write() -> None:
        nonlocal topic_writer
        if topic_writer is None:
            lake.create(store, process)
            log = TableLog.open(store, clock=process.clock)
            topic_writer = TopicWriter(
                queue, TOPIC, log, _LIMITS, grace_s=_GRACE_S, clock=process.clock
            )
        current, topic_writer = topic_writer, None
        current.step()
        topic_writer = current

    return write


@dataclass
class Job:
    """A batch job that appends its next version, exactly once, however often it is started."""

    maker: int

    @property
    def app_id(self) -> str:
        return f"job-{self.maker}"

    def __call__(self, lake: Lake, process: Process) -> Round:
        log = TableLog.open(lake.store(process), clock=process.clock)

        def append() -> None:
            log.refresh()
            done = log.committed(self.app_id)
            self._append(lake, process, log, done)

        return append

    def _append(self, lake: Lake, process: Process, log: TableLog, done: int | None) -> None:
        version = 0 if done is None else done + 1
        ids = ids_from(self.maker, version * 10, 1 + version % 4)
        lake.ledger.jobs[self.app_id, version] = tuple(ids)
        process.note(f"job appends version {version}")
        commit = log.append(table(ids), txn=Txn(self.app_id, version, after=done))
        if lake.history.newest.txns.get(self.app_id, -1) < version:
            raise Violation(
                f"Version {version} of {self.app_id} was acknowledged; it is not there."
            )
        process.note(f"job acknowledged: {commit}")
        if lake.world.random.random() < 0.2:
            again = log.append(table(ids), txn=Txn(self.app_id, version, after=done))
            if not again.repeated:
                raise Violation(f"Version {version} of {self.app_id} was taken twice: {again}.")


@dataclass
class Appender:
    """Appends rows without a transaction: each attempt has rows of its own."""

    maker: int
    _serial: Callable[[], int] = field(default_factory=lambda: count().__next__)

    def __call__(self, lake: Lake, process: Process) -> Round:
        log = TableLog.open(lake.store(process), clock=process.clock)

        def append() -> None:
            ids = ids_from(self.maker, self._serial() * 10, lake.world.random.randint(1, 4))
            attempt = lake.ledger.attempt(ids)
            try:
                commit = log.append(table(ids))
            except (Unavailable, CommitConflict):
                lake.ledger.tell(attempt, Told.NOT_STORED)
                raise
            lake.ledger.tell(attempt, Told.STORED)
            process.note(f"append acknowledged: {commit}")

        return append


@dataclass
class Purge:
    """A batch job that deletes some rows of the table as it is, exactly once."""

    maker: int
    _serial: Callable[[], int] = field(default_factory=lambda: count().__next__)

    def __call__(self, lake: Lake, process: Process) -> Round:
        batch = BatchWriter(lake.store(process), threads=1, clock=process.clock)

        def purge() -> None:
            chance, rows = lake.world.random, lake.history.newest.ids()
            ids = chance.sample(rows, min(len(rows), chance.randint(1, 5)))
            app_id, version = f"purge-{self.maker}", self._serial()
            lake.ledger.purges[app_id, version] = frozenset(ids)
            process.note(f"purges {sorted(ids)} as version {version}")
            result = batch.delete([Filter("id", "in", ids)], app_id=app_id, version=version)
            if left := set(ids) & set(lake.history.newest.ids()):
                raise Violation(f"{sorted(left)} were to be deleted, it is said, and are there.")
            process.note(f"{result}")

        return purge


@dataclass
class Compactor:
    """Joins small files, as far as others let it; `keeps` its handle and lease between rounds."""

    target_bytes: int
    keeps: bool
    lease_s: float = 60.0
    files_min: int = 2

    def __call__(self, lake: Lake, process: Process) -> Round:
        compactor = delta.Compactor(
            lake.store(process),
            target_bytes=self.target_bytes,
            files_min=self.files_min,
            lease_s=self.lease_s,
            clock=process.clock,
        )

        def compact() -> None:
            process.note(f"{compactor.run_round()}")
            if not self.keeps:
                compactor.close()

        return compact


@dataclass
class Vacuum:
    """Deletes what nobody needs any more, by tombstones or by listing."""

    full: bool

    def __call__(self, lake: Lake, process: Process) -> Round:
        store = lake.store(process)

        def vacuum() -> None:
            result = delta.vacuum(
                store,
                retention_hours=1.0,  # The table's property is longer, and wins.
                orphan_age_hours=lake.ages.orphan_age_s / 3600,
                full=self.full,
                clock=process.clock,
            )
            process.note(f"vacuumed {result.count}, elsewhere: {result.is_elsewhere}")

        return vacuum


@dataclass
class Maintenance:
    """Writes checkpoints, and cleans up the log behind them."""

    commits: int

    def __call__(self, lake: Lake, process: Process) -> Round:
        store = lake.store(process)

        def maintain() -> None:
            version = delta.checkpoint_if_due(store, commits=self.commits, clock=process.clock)
            process.note(f"checkpoint: {version}")
            gone = cleanup(store, clock=process.clock)
            process.note(f"clean-up to {gone.checkpoint}: {len(gone.names)} files")

        return maintain
