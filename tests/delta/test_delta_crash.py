"""A process killed at any step of a commit leaves a table that reads, and loses or doubles nothing.

Each test runs its operation in processes of their own that die before the first, second, … step of
the store (half through it, if it writes), until one comes to the end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from neuralake.clock import ManualClock, SystemClock
from neuralake.delta import (
    TableLog,
    Txn,
    checkpoint,
    cleanup,
    compact_once,
    create_table,
    exists,
    snapshot,
    vacuum,
)
from neuralake.delta.replay import replay
from neuralake.storage import LocalStore

CHILD = str(Path(__file__).with_name("crash_child.py"))
SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
# As in crash_child.py.
NEW = [(100, "a"), (101, "new/one"), (102, "a")]
TXN = Txn("app", 1000)
STEPS_MAX = 60


def crashes(operation: str, tables: Iterator[str]) -> list[tuple[str, bool]]:
    """Run `operation` on each table with a crash one step later each; (uri, came to the end)."""
    done = subprocess.run(
        [sys.executable, CHILD, operation, *tables], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert {code for code, _ in lines[:-1]} <= {"-9"}, done.stderr
    assert lines[-1][0] == "0", done.stderr or f"{operation} took more than {STEPS_MAX} steps"
    return [(uri, code == "0") for code, uri in lines]


def tables(folder: Path, *, commits: int) -> Iterator[str]:
    for number in range(STEPS_MAX):
        uri = str(folder / f"table{number}")
        if commits:
            create_table(uri, SCHEMA, partition_by=["p"])
            log = TableLog.open(uri)
            for i in range(commits):
                batch = pa.table({"id": [2 * i, 2 * i + 1], "p": ["a", "b"]}, SCHEMA)
                log.append(batch, txn=Txn("app", i))
        yield uri


def read(uri: str) -> list[tuple[int, str]]:
    return pl.scan_delta(uri).sort("id").collect().rows()


def before(commits: int) -> list[tuple[int, str]]:
    return [(i, "ab"[i % 2]) for i in range(2 * commits)]


def test_a_crash_while_creating_leaves_the_table_or_nothing(tmp_path: Path) -> None:
    outcomes = set()
    for uri, done in crashes("create", tables(tmp_path, commits=0)):
        outcomes.add(exists(uri))
        assert exists(uri) or not done
        create_table(uri, SCHEMA, partition_by=["p"])
        TableLog.open(uri).append(pa.table({"id": [1], "p": ["a"]}, SCHEMA))
        assert read(uri) == [(1, "a")]
    assert outcomes == {True, False}, "the crashes were on both sides of the commit"


def test_a_crash_while_appending_keeps_all_or_nothing_and_the_retry_adds_it_once(
    tmp_path: Path,
) -> None:
    outcomes = set()
    for uri, done in crashes("append", tables(tmp_path, commits=2)):
        committed = snapshot(uri).txn("app") == TXN.version
        outcomes.add(committed)
        assert committed or not done
        assert read(uri) == before(2) + (NEW if committed else [])

        rows = pa.table({"id": [row[0] for row in NEW], "p": [row[1] for row in NEW]}, SCHEMA)
        assert TableLog.open(uri).append(rows, txn=TXN).repeated == committed
        assert read(uri) == before(2) + NEW
    assert outcomes == {True, False}, "the crashes were on both sides of the commit"


def later(days: float) -> ManualClock:
    return ManualClock(SystemClock().now_s() + days * 86_400)


def test_a_crash_while_compacting_changes_no_row_and_the_next_round_ends_it(tmp_path: Path) -> None:
    """Whoever comes next waits for the lease of the dead, and no longer."""
    counts = set()
    for uri, _ in crashes("compact", tables(tmp_path, commits=3)):
        counts.add(len(snapshot(uri).files))
        assert read(uri) == before(3)
        compact_once(uri, target_bytes=2**20, files_min=2, clock=later(days=0.01))
        assert len(snapshot(uri).files) == 2
        assert read(uri) == before(3)
        assert snapshot(uri).txn("app") == 2
        vacuum(uri, retention_hours=24, full=True, clock=later(days=10))
        left = {path.name for path in Path(uri).rglob("*") if path.is_file()}
        assert len([name for name in left if name.endswith(".parquet")]) == 2
        assert not [name for name in left if name.endswith(".tmp")]
        assert read(uri) == before(3)
    assert counts == {6, 2}, "the crashes were on both sides of the commit"


def test_a_crash_while_vacuuming_loses_nothing_and_the_next_one_ends_it(tmp_path: Path) -> None:
    outcomes = set()
    for uri, _ in crashes("vacuum", dirty_tables(tmp_path)):
        # All that vacuum may delete, for it goes in the order of the listing, which is any.
        outcomes.add(len([path for path in Path(uri).glob("p=*/*") if path.is_file()]))
        assert read(uri) == before(3)
        vacuum(uri, retention_hours=24, full=True, clock=later(days=11))
        assert len([*Path(uri).rglob("*.parquet")]) == 2
        assert read(uri) == before(3)
    assert outcomes == {*range(2, 11)}, "the crashes were between any two removals"


def dirty_tables(folder: Path) -> Iterator[str]:
    """Two live files, six that were replaced, an orphan, and what a killed write left aside."""
    for uri in tables(folder, commits=3):
        compact_once(uri, target_bytes=2**20, files_min=2)
        Path(uri, "p=a", "part-orphan.parquet").write_bytes(b"x")
        Path(uri, "p=a", f".part-1.parquet.{'0f' * 16}.tmp").write_bytes(b"x")
        yield uri


def test_what_a_crash_left_aside_goes_after_a_day(tmp_path: Path) -> None:
    uri = next(tables(tmp_path, commits=1))
    leftover = Path(uri, "_delta_log", f".{2:020d}.json.{'0f' * 16}.tmp")
    leftover.write_bytes(b"{half")
    now_s = leftover.stat().st_mtime

    vacuum(uri, retention_hours=1000, full=True, clock=ManualClock(now_s + 3600))
    assert leftover.exists()
    vacuum(uri, retention_hours=1000, full=True, clock=ManualClock(now_s + 25 * 3600))
    assert not leftover.exists()
    assert read(uri) == before(1)


class RecordingStore(LocalStore):
    """Writes down each step that it makes, with the kind of thing it was made on."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.steps: list[str] = []

    def _write_new(self, path: str, data: bytes | memoryview) -> None:
        super()._write_new(path, data)  # Which syncs the file before it returns.
        self.steps.append("write " + self._kind(path))

    def _link(self, aside: str, path: str) -> None:
        super()._link(aside, path)
        self.steps.append("link")

    def _sync_folder(self, path: str) -> None:
        super()._sync_folder(path)
        self.steps.append("sync " + self._kind(path))

    def _kind(self, path: str) -> str:
        if "_delta_log" in path:
            return "log"
        return "table" if path == self.uri else "data"


def test_everything_an_entry_needs_is_durable_before_it_becomes_visible(tmp_path: Path) -> None:
    """Power loss cannot be tried here; the order of the steps is what guards against it."""
    uri = next(tables(tmp_path, commits=1))
    log = TableLog.open(store := RecordingStore(uri))
    store.steps.clear()
    log.append(pa.table({"id": [1], "p": ["new"]}, SCHEMA))

    assert store.steps == ["sync table", "write data", "sync data", "write log", "link", "sync log"]


def test_a_repeat_is_only_reported_when_the_first_is_durable(tmp_path: Path) -> None:
    """Its process may have died between making the entry visible and syncing the folder."""
    uri = next(tables(tmp_path, commits=1))
    log = TableLog.open(store := RecordingStore(uri))
    rows = pa.table({"id": [1], "p": ["a"]}, SCHEMA)
    TableLog.open(uri).append(rows, txn=TXN)
    store.steps.clear()

    assert log.append(rows, txn=TXN).repeated
    assert store.steps[-1] == "sync log"


def checkpointed(folder: Path, *, after: int) -> Iterator[str]:
    """Tables of four commits with a checkpoint after the second, and `after` more commits."""
    for uri in tables(folder, commits=2):
        checkpoint(uri)
        log = TableLog.open(uri)
        for i in range(2, 2 + after):
            batch = pa.table({"id": [2 * i, 2 * i + 1], "p": ["a", "b"]}, SCHEMA)
            log.append(batch, txn=Txn("app", i))
        yield uri


def test_a_crash_while_writing_a_checkpoint_leaves_the_old_one_or_the_new(tmp_path: Path) -> None:
    versions = set()
    for uri, done in crashes("checkpoint", checkpointed(tmp_path, after=2)):
        found = replay(LocalStore(uri))
        assert found.checkpoint is not None
        versions.add(found.checkpoint.version)
        assert found.checkpoint.version == 4 or not done
        assert read(uri) == before(4)
        assert snapshot(uri).rows == 8

        TableLog.open(uri).append(pa.table({"id": [8, 9], "p": ["a", "b"]}, SCHEMA))
        assert checkpoint(uri) == 5
        assert read(uri) == before(5)
    assert versions == {2, 4}, "the crashes were on both sides of the checkpoint"


def test_a_crash_while_cleaning_up_the_log_loses_no_version_that_stays(tmp_path: Path) -> None:
    def twice(folder: Path) -> Iterator[str]:
        for uri in checkpointed(folder, after=2):
            checkpoint(uri)
            yield uri

    counts = set()
    for uri, _ in crashes("cleanup", twice(tmp_path)):
        counts.add(len(LocalStore(uri).names("_delta_log")))
        assert (read(uri), snapshot(uri).rows) == (before(4), 8)
        assert snapshot(uri, 4).rows == 8

        TableLog.open(uri).append(pa.table({"id": [8, 9], "p": ["a", "b"]}, SCHEMA))
        later = ManualClock(SystemClock().now_s() + 40 * 86_400)
        assert cleanup(uri, clock=later).checkpoint == 4
        assert LocalStore(uri).names("_delta_log") == [
            f"{4:020d}.checkpoint.parquet",
            f"{4:020d}.json",
            f"{5:020d}.json",
            "_last_checkpoint",
        ]
        assert read(uri) == before(5)
    assert len(counts) > 4, "the crashes were between the removals"
