"""Log clean-up keeps every version inside the retention, and whatever is in doubt."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from log_maker import NOW_MS, add, info, make_table, put_entry

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, Txn, checkpoint, cleanup, snapshot
from neuralake.delta.log import FOLDER, entry_name
from neuralake.delta.replay import replay
from neuralake.errors import Conflict, UnknownName
from neuralake.storage import LocalStore, LogStore, MemoryStore

DAY_S = 86_400
ONE_DAY = {"delta.logRetentionDuration": "interval 1 days"}


class Table:
    """One commit every six hours, at the store's own time."""

    def __init__(self, kind: str, folder: Path, **properties: str) -> None:
        self.clock = ManualClock(NOW_MS / 1000)
        self.folder = folder
        self.store: LogStore
        self.store = LocalStore(folder) if kind == "local" else MemoryStore(clock=self.clock)
        make_table(self.store, **properties)
        self.dated()

    def commit(self, count: int, *, checkpoint_at: tuple[int, ...] = ()) -> None:
        first = replay(self.store).version + 1
        for version in range(first, first + count):
            self.clock.advance(DAY_S / 4)
            now_ms = int(self.clock.now_s() * 1000)
            put_entry(self.store, version, info(now_ms), add(f"f{version}"))
            if version in checkpoint_at:
                checkpoint(self.store, clock=self.clock)
            self.dated()

    def dated(self) -> None:
        """Files on disk get the time of the turned clock."""
        if isinstance(self.store, LocalStore):
            for path in (self.folder / FOLDER).rglob("*"):
                if path.is_file() and path.stat().st_mtime > self.clock.now_s():
                    os.utime(path, (self.clock.now_s(),) * 2)

    def put(self, name: str, data: bytes = b"") -> None:
        self.store.put({f"{FOLDER}/{name}": data})
        self.dated()

    @property
    def names(self) -> list[str]:
        return self.store.names(FOLDER)

    @property
    def entries(self) -> list[int]:
        return [int(name[:20]) for name in self.names if name.endswith(f"{name[:20]}.json")]


@pytest.fixture(params=["local", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_everything_from_the_newest_checkpoint_before_the_retention_stays(
    kind: str, tmp_path: Path
) -> None:
    table = Table(kind, tmp_path, **ONE_DAY)
    table.commit(20, checkpoint_at=(5, 10, 15, 18))
    before = [sorted(file.path for file in snapshot(table.store, n).files) for n in range(21)]

    dry = cleanup(table.store, dry_run=True, clock=table.clock)
    assert table.entries == list(range(21))
    done = cleanup(table.store, clock=table.clock)

    # Now is commit 20; a day ago was commit 16.
    assert done == dry
    assert done.checkpoint == 15
    assert table.entries == list(range(15, 21))
    assert [name for name in table.names if "checkpoint.parquet" in name] == [
        f"{n:020d}.checkpoint.parquet" for n in (15, 18)
    ]
    for version in range(15, 21):
        found = sorted(file.path for file in snapshot(table.store, version).files)
        assert found == before[version]
    with pytest.raises(UnknownName):
        snapshot(table.store, 14)
    assert cleanup(table.store, clock=table.clock).names == ()


@pytest.mark.parametrize(
    ("properties", "checkpoints"),
    [
        ({}, (5, 10)),  # 30 days.
        ({**ONE_DAY, "delta.enableExpiredLogCleanup": "false"}, (5, 10)),
        (ONE_DAY, ()),
        (ONE_DAY, (18,)),  # Younger than the retention.
    ],
)
def test_nothing_goes_that_the_table_wants_to_keep(
    kind: str, tmp_path: Path, properties: dict[str, str], checkpoints: tuple[int, ...]
) -> None:
    table = Table(kind, tmp_path, **properties)
    table.commit(20, checkpoint_at=checkpoints)

    assert cleanup(table.store, clock=table.clock).names == ()
    assert table.entries == list(range(21))


def test_no_retention_is_shorter_than_what_handles_rely_on(kind: str, tmp_path: Path) -> None:
    table = Table(kind, tmp_path, **{"delta.logRetentionDuration": "interval 1 seconds"})
    table.commit(4, checkpoint_at=(4,))
    table.clock.advance(7100)
    assert cleanup(table.store, clock=table.clock).names == ()
    table.clock.advance(200)
    assert cleanup(table.store, clock=table.clock).checkpoint == 4


@pytest.mark.parametrize("damage", [b"", b"half"])
def test_a_checkpoint_that_does_not_read_covers_nothing(
    kind: str, tmp_path: Path, damage: bytes
) -> None:
    table = Table(kind, tmp_path, **ONE_DAY)
    table.commit(20, checkpoint_at=(5, 10))
    name = f"{10:020d}.checkpoint.parquet"
    whole = table.store.read(f"{FOLDER}/{name}") or b""
    table.put(name, whole[: len(whole) // 2] if damage else b"")

    assert cleanup(table.store, clock=table.clock).checkpoint == 5
    assert table.entries == list(range(5, 21))
    assert len(snapshot(table.store).files) == 20


def test_copied_files_look_new_and_old_entries_with_a_new_look_stay(
    kind: str, tmp_path: Path
) -> None:
    """The time that an entry says and the time of its file must both be before the retention."""
    table = Table(kind, tmp_path, **ONE_DAY)
    table.commit(20, checkpoint_at=(10,))
    data = table.store.read(entry_name(10)) or b""
    table.put(f"{10:020d}.json", data)

    assert cleanup(table.store, clock=table.clock).names == ()


def test_a_pointer_to_what_goes_is_turned_first(kind: str, tmp_path: Path) -> None:
    table = Table(kind, tmp_path, **ONE_DAY)
    table.commit(5, checkpoint_at=(5,))
    old = table.store.read(f"{FOLDER}/_last_checkpoint") or b""
    table.commit(15, checkpoint_at=(10,))
    table.put("_last_checkpoint", old)

    cleanup(table.store, clock=table.clock)
    assert b'"version":10' in (table.store.read(f"{FOLDER}/_last_checkpoint") or b"")
    assert replay(table.store).version == 20


def test_leftovers_go_after_a_day_and_what_belongs_to_old_entries_with_them(
    kind: str, tmp_path: Path
) -> None:
    table = Table(kind, tmp_path, **ONE_DAY)
    table.commit(10, checkpoint_at=(8,))
    old = [f".{9:020d}.json.0f.tmp", f".{8:020d}.checkpoint.parquet.{'0' * 32}.tmp"]
    beside = [f"{3:020d}.crc", f"{2:020d}.{5:020d}.compacted.json", "_sidecars/old.parquet"]
    kept = [f"{9:020d}.crc", "note.txt", f"{3:020d}.json.bak"]
    for name in (*old, *beside, *kept):
        table.put(name)
    table.clock.advance(DAY_S + 1)
    table.put(".new.tmp")
    table.put("_sidecars/new.parquet")

    done = cleanup(table.store, clock=table.clock)
    assert sorted(done.leftovers) == sorted(f"{FOLDER}/{name}" for name in old)
    left = {file.name.removeprefix(f"{FOLDER}/") for file in table.store.files(FOLDER)}
    assert left.isdisjoint({*old, *beside})
    assert left >= {*kept, ".new.tmp", "_sidecars/new.parquet"}


def test_a_handle_that_slept_through_a_clean_up_goes_on_where_the_table_is(
    kind: str, tmp_path: Path
) -> None:
    table = Table(kind, tmp_path, **ONE_DAY)
    log = TableLog.open(table.store, clock=table.clock)
    table.commit(20, checkpoint_at=(10, 20))
    table.clock.advance(2 * DAY_S)
    assert cleanup(table.store, clock=table.clock).checkpoint == 20

    done = log.append(pa.table({"id": [1], "p": ["a"]}), txn=Txn("app", 1))
    assert (done.version, snapshot(table.store).txn("app")) == (21, 1)
    assert table.entries == [20, 21]


class PausingStore(MemoryStore):
    """The put of the next entry takes place only after somebody else worked for days."""

    meanwhile = staticmethod(lambda: None)

    def put_if_absent(self, name: str, data: bytes | memoryview) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        super().put_if_absent(name, data)


def test_a_commit_that_lands_in_a_log_that_was_cleaned_past_it_is_not_acknowledged(
    tmp_path: Path,
) -> None:
    """Its name is free again, so the put succeeds; but no version of the table has it."""
    table = Table("memory", tmp_path, **ONE_DAY)
    store = table.store = PausingStore(clock=table.clock)
    make_table(store, **ONE_DAY)
    log = TableLog.open(store, clock=table.clock)

    def days() -> None:
        table.commit(20, checkpoint_at=(15,))
        cleanup(store, clock=table.clock)
        assert table.entries == list(range(15, 21))

    store.meanwhile = days
    rows = pa.table({"id": [1], "p": ["a"]})
    done = append_until_known(log, rows)

    assert done == 21
    assert snapshot(store).txn("app") == 1
    assert len(snapshot(store).files) == 21


def append_until_known(log: TableLog, rows: pa.Table) -> int:
    for _ in range(3):
        try:
            return log.append(rows, txn=Txn("app", 1)).version
        except Conflict:
            log.refresh()
    raise AssertionError("no commit in three tries")
