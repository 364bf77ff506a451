"""Whatever others commit between the steps of a batch write, the table is what some order gives.

And it is the order of the versions: each write is done to all that was committed before it, so
replaying the writes on a Python list in the order of their versions gives the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.batch import BatchResult, BatchWriter
from neuralake.clock import ManualClock
from neuralake.delta import (
    DataFile,
    TableLog,
    checkpoint,
    cleanup,
    compact_once,
    create_table,
    snapshot,
)
from neuralake.errors import CommitConflict, NeedsAttention, Unavailable
from neuralake.filters import Filter
from neuralake.storage import Bytes, MemoryStore, OutcomeUnknown

SCHEMA = pa.schema([("k", pa.int64()), ("p", pa.string()), ("by", pa.string())])
Row = tuple[int, str, str]
Rows = list[Row]


def table_of(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


class MeddledStore(MemoryStore):
    """Before chosen calls the rest of the world takes a step; answers may be lost."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.actions: list[Callable[[], object] | None] = []
        self.losses = 0
        self._is_inside = False

    def _meddle(self) -> None:
        if self.actions and not self._is_inside:
            action = self.actions.pop(0)
            if action is not None:
                self._is_inside = True
                try:
                    action()
                finally:
                    self._is_inside = False

    def put_if_absent(self, name: str, data: Bytes) -> None:
        self._meddle()
        super().put_if_absent(name, data)
        if self.losses and not self._is_inside:
            self.losses -= 1
            raise OutcomeUnknown("The answer was lost.", name=name)
        self._meddle()

    def put(self, files: Mapping[str, Bytes]) -> None:
        self._meddle()
        super().put(files)

    def read(self, name: str) -> bytes | None:
        self._meddle()
        return super().read(name)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO | None]:
        self._meddle()
        with super().open(name) as file:
            yield file


class World:
    """One table, and what each write did to a list of rows, by the version that it made."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MeddledStore(self.clock)
        create_table(self.store, SCHEMA, partition_by=["p"], clock=self.clock)
        self.done: list[tuple[int, Callable[[Rows], Rows]]] = []
        self.count = 0
        self.appender = BatchWriter(self.store, threads=1, clock=self.clock)
        self.other = BatchWriter(self.store, threads=1, clock=self.clock)

    def step(self, writer: BatchWriter, name: str) -> None:
        self.count += 1
        by = f"{name}{self.count}"
        if name == "compact":
            compact_once(self.store, target_bytes=2**20, files_min=2, clock=self.clock)
            return
        done, model = getattr(self, name)(writer, by)
        self.done.append((done.version, model))

    def append(self, writer: BatchWriter, by: str) -> tuple[BatchResult, Any]:
        new: Rows = [(1, "a", by), (2, "b", by)]
        return writer.append(table_of(new)), lambda rows: rows + new

    def delete(self, writer: BatchWriter, by: str) -> tuple[BatchResult, Any]:
        done = writer.delete(Filter("k", "=", 1), app_id=by, version=1)
        return done, lambda rows: [row for row in rows if row[0] != 1]

    def replace(self, writer: BatchWriter, by: str) -> tuple[BatchResult, Any]:
        new: Rows = [(2, "b", by)]
        done = writer.overwrite(table_of(new), Filter("p", "=", "b"), app_id=by, version=1)
        return done, lambda rows: [row for row in rows if row[1] != "b"] + new

    def upsert(self, writer: BatchWriter, by: str) -> tuple[BatchResult, Any]:
        new: Rows = [(1, "a", by), (3, "a", by)]
        done = writer.merge(table_of(new), on=["k", "p"], app_id=by, version=1)

        def model(rows: Rows) -> Rows:
            source = {row[:2]: row for row in new}
            known = {row[:2] for row in rows}
            kept = [source.get(row[:2], row) for row in rows]
            return kept + [row for row in new if row[:2] not in known]

        return done, model

    def check(self) -> None:
        rows: Rows = []
        for _, model in sorted(self.done, key=lambda each: each[0]):
            rows = model(rows)
        assert sorted(read(self.store)) == sorted(rows)


def read(store: MemoryStore) -> Rows:
    log = TableLog.open(store)
    return [row for file in snapshot(store, log.version).files for row in rows_of(log, file)]


def rows_of(log: TableLog, file: DataFile) -> Iterable[Row]:
    for batch in log.files.read(file):
        for row in batch.to_pylist():
            yield row["k"], file.partition["p"] or "", row["by"]


WRITES = ["append", "delete", "replace", "upsert"]
OTHERS = st.sampled_from([None, None, "compact", *WRITES])


@settings(max_examples=examples(20), deadline=None)
@given(
    before=st.lists(st.sampled_from([*WRITES, "compact"]), max_size=3),
    name=st.sampled_from(WRITES),
    during=st.lists(OTHERS, max_size=12),
    losses=st.integers(0, 2),
)
def test_the_table_is_what_the_writes_give_in_the_order_of_their_versions(
    before: list[str], name: str, during: list[str | None], losses: int
) -> None:
    world = World()
    for each in ["append", *before]:
        world.step(world.appender, each)

    def others(each: str) -> Callable[[], object]:
        return lambda: world.step(world.other, each)

    world.store.actions = [None if each is None else others(each) for each in during]
    world.store.losses = losses
    world.step(BatchWriter(world.store, threads=1, clock=world.clock), name)

    world.store.actions = []
    world.check()
    assert not unmentioned(world.store), "what a lost race stored is removed"


def test_a_delete_beside_an_append_that_it_should_have_read_takes_its_rows_too() -> None:
    world = World()
    world.step(world.appender, "append")
    writer = BatchWriter(world.store, threads=1, clock=world.clock)
    writer.delete(Filter("k", "=", 100))  # Opens the table.

    late = lambda: world.step(world.other, "append")  # noqa: E731 one line at the one step
    world.store.actions = [*[None] * 6, late]
    world.step(writer, "delete")

    assert not world.store.actions, "the append came in between"
    assert all(row[0] != 1 for row in read(world.store))
    world.check()


class BusyStore(MemoryStore):
    """Before an entry of ours is put, `others` commit."""

    others: Callable[[], object] | None = None

    def put_if_absent(self, name: str, data: Bytes) -> None:
        others, self.others = self.others, None
        if others is not None:
            others()
        super().put_if_absent(name, data)


@pytest.fixture
def busy() -> BusyStore:
    """Two files of rows 1 and 2."""
    store = BusyStore()
    create_table(store, SCHEMA, partition_by=["p"])
    for by in ("first", "second"):
        BatchWriter(store).append(table_of([(1, "a", by), (2, "a", by)]))
    return store


def unmentioned(store: MemoryStore) -> set[str]:
    """Data files that no version has."""
    stored = {file.name for file in store.files() if file.name.endswith(".parquet")}
    versions = range(snapshot(store).version + 1)
    return stored - {file.path for v in versions for file in snapshot(store, v).files}


def test_a_writer_that_is_overtaken_again_and_again_gives_up_and_leaves_nothing(
    busy: BusyStore,
) -> None:
    rival = BatchWriter(busy)

    def overtake() -> None:
        rival.append(table_of([(1, "a", "rival")]))
        busy.others = overtake

    busy.others = overtake
    with pytest.raises(CommitConflict, match="should have been read"):
        BatchWriter(busy).delete(Filter("k", "=", 1))
    busy.others = None

    assert not unmentioned(busy)
    assert BatchWriter(busy).delete(Filter("k", "=", 1)).rows_deleted == 52


def test_a_delete_beside_a_compaction_reads_the_new_file_and_drops_its_old_work(
    busy: BusyStore,
) -> None:
    busy.others = lambda: compact_once(busy, target_bytes=2**20, files_min=2)

    done = BatchWriter(busy).delete(Filter("k", "=", 1))

    assert (done.rows_deleted, done.files_removed, done.version) == (2, 1, 4)
    assert read(busy) == [(2, "a", "first"), (2, "a", "second")]
    assert not unmentioned(busy)


def test_work_on_files_that_are_still_there_is_not_done_again(busy: BusyStore) -> None:
    rival = BatchWriter(busy)
    busy.others = lambda: rival.append(table_of([(1, "a", "late"), (2, "a", "late")]))
    writer = BatchWriter(busy)
    writer.delete(Filter("k", "=", 1))

    written = [file.name for file in busy.files() if file.name.endswith(".parquet")]
    assert len(written) == 6, "three that were appended, and each rewritten once"
    assert [row[0] for row in read(busy)] == [2, 2, 2]


class SleepyStore(MemoryStore):
    """The laptop is closed for two hours when the first data file of a write was stored."""

    is_tired = False

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._manual = clock

    def put(self, files: Mapping[str, Bytes]) -> None:
        super().put(files)
        if self.is_tired:
            self.is_tired = False
            self._manual.advance(7200)


def test_files_that_waited_so_long_that_vacuum_may_have_them_are_written_anew() -> None:
    clock = ManualClock()
    store = SleepyStore(clock)
    create_table(store, SCHEMA, clock=clock)
    writer = BatchWriter(store, clock=clock)
    writer.append(table_of([(1, "a", ""), (2, "a", "")]))

    slept_s = clock.now_s() + 7200
    store.is_tired = True
    assert writer.delete(Filter("k", "=", 1)).rows_deleted == 1

    (live,) = snapshot(store).files
    stored = {file.name: file.modified_s for file in store.files()}
    assert stored[live.path] >= slept_s
    assert len([name for name in stored if name.endswith(".parquet")]) == 2, "no orphan is left"


class HeldUpStore(MemoryStore):
    """The next reader of the log is held up, and `meanwhile` happens."""

    meanwhile: Callable[[], None] | None = None

    def recover(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()


def test_a_write_that_slept_through_a_clean_up_of_the_log_is_done_to_what_is_there_now() -> None:
    """Between asking for the newest version and reading it: that version is gone by then."""
    clock = ManualClock()
    store = HeldUpStore(clock=clock)
    properties = {"delta.logRetentionDuration": "interval 2 hours"}
    create_table(store, SCHEMA, properties=properties, clock=clock)
    writer = BatchWriter(store, clock=clock)
    writer.append(table_of([(1, "a", ""), (2, "a", "")]))

    def days_pass() -> None:
        other = TableLog.open(store, clock=clock)
        for _ in range(2):
            other.append(table_of([(1, "b", ""), (3, "b", "")]))
            clock.advance(86_400)
            checkpoint(store, clock=clock)
        clock.advance(86_400)
        assert cleanup(store, clock=clock).names

    store.meanwhile = days_pass
    assert writer.delete(Filter("k", "=", 1)).rows_deleted == 3


class FullStore(MemoryStore):
    """Takes no log entry: the disk is full."""

    is_full = False

    def put_if_absent(self, name: str, data: Bytes) -> None:
        if self.is_full:
            raise Unavailable("No space left.")
        super().put_if_absent(name, data)


def test_what_cannot_be_committed_leaves_no_file() -> None:
    store = FullStore()
    create_table(store, SCHEMA, partition_by=["p"])
    writer = BatchWriter(store)
    writer.append(table_of([(1, "a", ""), (2, "a", "")]))
    before = {file.name for file in store.files()}

    store.is_full = True
    with pytest.raises(Unavailable):
        writer.delete(Filter("k", "=", 1))
    store.is_full = False

    assert {file.name for file in store.files()} == before
    assert writer.delete(Filter("k", "=", 1)).rows_deleted == 1


def test_a_file_that_is_missing_from_the_table_needs_a_person() -> None:
    """Not a conflict: trying again will not bring it back."""
    store = MemoryStore()
    create_table(store, SCHEMA)
    writer = BatchWriter(store)
    writer.append(table_of([(1, "a", ""), (2, "a", "")]))
    store.remove([snapshot(store).files[0].path])

    with pytest.raises(NeedsAttention, match="missing"):
        writer.delete(Filter("k", "=", 1))
