"""Whatever happened before, vacuum leaves every version inside the retention readable.

Random histories in virtual time: appends, compactions, orphans, commits that are paused between
storing their files and putting their entry and resume hours or days later, and vacuums of both
kinds in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, compact_once, create_table, snapshot, vacuum
from neuralake.delta.actions import CommitInfo
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.files import NewFile
from neuralake.delta.log import read_entry
from neuralake.errors import CommitConflict, NeedsAttention
from neuralake.storage import MemoryStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
HOUR = 3600.0
RETENTION_HOURS = 48.0
ORPHAN_AGE_HOURS = 24.0


@dataclass
class Paused:
    """A commit that has stored its file and sleeps."""

    log: TableLog
    file: NewFile
    ids: list[int]

    def resume(self) -> bool:
        """Whether it came to its commit; it is refused if it slept too long."""
        info = CommitInfo(operation="WRITE", is_blind_append=True)
        try:
            self.log.commit(
                lambda now_ms: [self.file.add(modified_ms=now_ms, data_change=True)],
                info,
                footprint=Footprint(Operation.APPEND),
            )
        except CommitConflict:
            return False
        return True


@dataclass
class World:
    clock: ManualClock = field(default_factory=ManualClock)
    paused: list[Paused] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    orphans: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        create_table(self.store, SCHEMA, partition_by=["p"], clock=self.clock)

    def rows(self) -> pa.Table:
        self.count += 1
        return pa.table({"id": [self.count], "p": [f"{self.count % 2}"]}, SCHEMA)

    def append(self) -> None:
        TableLog.open(self.store, clock=self.clock).append(self.rows())
        self.ids.add(self.count)

    def pause(self) -> None:
        log = TableLog.open(self.store, clock=self.clock)
        rows = self.rows()
        (file,) = log.files.write(log.files.fit(rows))
        self.paused.append(Paused(log, file, [self.count]))

    def resume(self) -> None:
        if self.paused:
            paused = self.paused.pop(0)
            if paused.resume():
                self.ids.update(paused.ids)

    def orphan(self) -> None:
        self.count += 1
        name = f"p=0/part-orphan-{self.count}.parquet"
        self.store.put({name: b"x"})
        self.orphans[name] = self.clock.now_s()

    def compact(self) -> None:
        compact_once(self.store, target_bytes=2**20, files_min=2, clock=self.clock)

    def vacuum(self, *, full: bool) -> None:
        done = vacuum(
            self.store,
            retention_hours=RETENTION_HOURS,
            orphan_age_hours=ORPHAN_AGE_HOURS,
            full=full,
            clock=self.clock,
        )
        gone = {file.name for file in done.files}
        for name, stored_s in self.orphans.items():
            is_old = self.clock.now_s() - stored_s > ORPHAN_AGE_HOURS * HOUR
            assert name not in gone or is_old, "younger than the minimum"
            if full and is_old:
                assert self.store.read(name) is None
        assert not gone & {file.name for file in self.store.files()}

    def check(self) -> None:
        newest = snapshot(self.store).version
        assert read(self.store, newest) == sorted(self.ids)
        for version in self.versions_inside_retention(newest):
            read(self.store, version)

    def versions_inside_retention(self, newest: int) -> Iterator[int]:
        """Those that were the newest at some time inside it."""
        for version in range(newest, 0, -1):
            yield version
            entry = read_entry(self.store, version)
            assert entry is not None
            (committed_ms,) = [
                line.commit_info.timestamp or 0 for line in entry.lines if line.commit_info
            ]
            if self.clock.now_s() - committed_ms / 1000 > RETENTION_HOURS * HOUR:
                return


def read(store: MemoryStore, version: int) -> list[int]:
    log = TableLog.open(store)
    files = snapshot(store, version).files
    found = (batch["id"].to_pylist() for file in files for batch in log.files.read(file))
    return sorted(i for ids in found for i in ids)


STEPS = ("append", "append", "pause", "resume", "orphan", "compact", "lite", "full", "wait")
histories = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from([0.01, 0.5, 2.0, 13.0, 30.0])), max_size=30
)


@settings(max_examples=examples(20))
@given(history=histories)
def test_every_version_inside_the_retention_stays_readable_and_no_live_file_is_missing(
    history: list[tuple[str, float]],
) -> None:
    world = World()
    for step, hours in history:
        world.clock.advance(1)
        match step:
            case "append":
                world.append()
            case "pause":
                world.pause()
            case "resume":
                world.resume()
            case "orphan":
                world.orphan()
            case "compact":
                world.compact()
            case "wait":
                world.clock.advance(hours * HOUR)
            case kind:
                world.vacuum(full=kind == "full")
                world.check()
    while world.paused:
        world.resume()
    world.check()


def test_the_check_notices_a_missing_file() -> None:
    world = World()
    world.append()
    world.store.remove([file.name for file in world.store.files("p=1")])
    with pytest.raises(NeedsAttention, match="missing"):
        world.check()
