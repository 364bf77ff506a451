"""Compaction changes no row and gives way to everyone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta_tables import inline_vector
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from neuralake.clock import Clock, ManualClock, SystemClock
from neuralake.delta import (
    Compactor,
    CompactResult,
    TableLog,
    Txn,
    compact_once,
    create_table,
    snapshot,
    vacuum,
)
from neuralake.delta.actions import Action, Add, CommitInfo
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.log import read_entry
from neuralake.errors import NeedsAttention, UnsupportedFeature
from neuralake.storage import Bytes, LocalStore, Sink

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
OLD_SPARK = {"org.apache.spark.version": "2.4.8"}
MIB = 2**20


def rows(*ids: int, p: str = "a") -> pa.Table:
    return pa.table({"id": list(ids), "p": [p] * len(ids)}, SCHEMA)


def read(uri: str) -> list[tuple[int, str]]:
    return pl.scan_delta(uri).sort("id").collect().rows()


def compact(
    uri: str, store: LocalStore | None = None, *, clock: Clock | None = None
) -> CompactResult:
    return compact_once(store or uri, target_bytes=MIB, files_min=2, clock=clock)


def later() -> Clock:
    """The clock of somebody for whom every lease has expired."""
    return ManualClock(SystemClock().now_s() + 100)


def ids_in_file_order(uri: str, partition: str) -> list[int]:
    """The rows of the one file of a partition."""
    (file,) = [file for file in snapshot(uri).files if file.partition == {"p": partition}]
    return pl.read_parquet(Path(uri, file.path))["id"].to_list()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Six commits, alternating between the partitions a and b."""
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, partition_by=["p"])
    log = TableLog.open(uri)
    for i in range(6):
        log.append(rows(2 * i, 2 * i + 1, p="ab"[i % 2]), txn=Txn("app", i))
    return uri


EXPECTED = [(i, "ab"[i // 2 % 2]) for i in range(12)]


def test_small_files_of_a_partition_become_one_and_no_row_changes(uri: str) -> None:
    done = compact(uri)

    assert (done.partitions, done.files_removed, done.files_added, done.rows) == (2, 6, 2, 12)
    assert (done.version, done.conflicts) == (7, 0), "small work of all partitions is one commit"
    assert len(snapshot(uri).files) == 2
    assert snapshot(uri).rows == 12
    assert snapshot(uri).txn("app") == 5
    assert read(uri) == EXPECTED


def test_rows_of_a_partition_keep_the_order_of_their_commits(uri: str) -> None:
    log = TableLog.open(uri)
    compact(uri)
    log.append(rows(1), txn=Txn("app", 6))
    log.append(rows(0), txn=Txn("app", 7))
    compact(uri)

    assert ids_in_file_order(uri, "a") == [0, 1, 4, 5, 8, 9, 1, 0]


def test_the_log_says_that_no_data_changed(uri: str) -> None:
    compact(uri)
    entry = read_entry(LocalStore(uri), 7)

    assert entry is not None
    actions = [line.add or line.remove for line in entry.lines if not line.commit_info]
    assert [action.data_change for action in actions if action is not None] == [False] * 8


def test_a_second_round_finds_nothing_to_do(uri: str) -> None:
    compact(uri)

    assert compact(uri) == CompactResult()
    assert snapshot(uri).version == 7


def test_an_append_only_table_is_compacted(tmp_path: Path) -> None:
    """The protocol forbids removes only where data changes."""
    uri = str(tmp_path)
    create_table(uri, SCHEMA, properties={"delta.appendOnly": "true"})
    log = TableLog.open(uri)
    log.append(rows(1))
    log.append(rows(2))

    assert compact(uri).files_added == 1
    assert read(uri) == [(1, "a"), (2, "a")]


def test_what_compaction_replaced_goes_after_the_retention(uri: str) -> None:
    compact(uri)

    assert vacuum(uri, retention_hours=1).count == 0
    assert vacuum(uri, retention_hours=0, dry_run=True).count == 6
    assert len(list(Path(uri).rglob("part-*"))) == 8
    assert vacuum(uri, retention_hours=0).count == 6
    assert len(list(Path(uri).rglob("part-*"))) == 2
    assert read(uri) == EXPECTED


def test_files_from_before_a_new_column_get_nulls_in_it(uri: str) -> None:
    DeltaTable(uri).alter.add_columns([Field("extra", PrimitiveType("string"))])
    extended = TableLog.open(uri)
    extended.append(pa.table({"id": [12], "p": ["a"], "extra": ["x"]}, extended.schema))
    compact(uri)

    frame = pl.scan_delta(uri).sort("id").collect()
    assert frame.rows() == [(*row, None) for row in EXPECTED] + [(12, "a", "x")]


def test_files_of_other_writers_are_compacted_too(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    frame = pl.DataFrame({"id": [1, 2], "p": ["a b", None], "at": [None, "x"]})
    for _ in range(3):
        frame.write_delta(uri, mode="append", delta_write_options={"partition_by": ["p"]})

    assert compact(uri).rows == 6
    assert pl.scan_delta(uri).sort("id").collect().rows() == sorted(frame.rows() * 3)


class MeddlingStore(LocalStore):
    """Lets somebody else act once: before the first put of a log entry, or of a data file."""

    def __init__(self, folder: str, meddle: Callable[[], object], *, early: bool = False) -> None:
        super().__init__(folder)
        self._meddle, self._early = [meddle], early

    @contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        if self._early:
            self._act()
        with super().create(name) as sink:
            yield sink

    def put_if_absent(self, name: str, data: Bytes) -> None:
        if name.startswith("_delta_log/"):
            self._act()
        super().put_if_absent(name, data)

    def _act(self) -> None:
        while self._meddle:
            self._meddle.pop()()


@pytest.mark.parametrize("early", [True, False])
def test_an_append_meanwhile_is_no_conflict_and_comes_after(uri: str, early: bool) -> None:
    log = TableLog.open(uri)
    done = compact(uri, MeddlingStore(uri, lambda: log.append(rows(12)), early=early))

    assert (done.conflicts, done.partitions, done.version) == (0, 2, 8)
    assert read(uri) == [*EXPECTED, (12, "a")]
    compact(uri)
    assert ids_in_file_order(uri, "a") == [0, 1, 4, 5, 8, 9, 12]


def test_of_two_compactions_of_the_same_files_one_gives_way(uri: str) -> None:
    """The lease keeps them apart as a rule; here it has expired right before the commit."""
    done = compact(uri, MeddlingStore(uri, lambda: compact(uri, clock=later())))

    assert (done.conflicts, done.partitions, done.version) == (2, 0, None)
    assert read(uri) == EXPECTED
    assert len(snapshot(uri).files) == 2
    assert len(list(Path(uri).rglob("part-*"))) == 8, "the loser's own files are gone"


def test_a_delete_meanwhile_wins(uri: str) -> None:
    done = compact(uri, MeddlingStore(uri, lambda: DeltaTable(uri).delete("p = 'a'")))

    assert (done.conflicts, done.partitions) == (1, 1)
    assert read(uri) == [row for row in EXPECTED if row[1] == "b"]


def test_a_changed_schema_stops_the_whole_round(uri: str) -> None:
    column = Field("extra", PrimitiveType("long"))
    meddle = MeddlingStore(uri, lambda: DeltaTable(uri).alter.add_columns([column]))

    assert compact(uri, meddle) == CompactResult(conflicts=2)


def test_a_feature_turned_on_meanwhile_stops_the_round_and_leaves_no_file(uri: str) -> None:
    meddle = MeddlingStore(uri, lambda: DeltaTable(uri).alter.add_constraint({"c": "id >= 0"}))
    with pytest.raises(UnsupportedFeature):
        compact(uri, meddle)

    assert len(list(Path(uri).rglob("part-*"))) == 6


def test_a_partition_that_cannot_be_rewritten_is_left_as_it_is_and_starves_no_other(
    uri: str,
) -> None:
    """Its file has other rows than the log says."""
    file = snapshot(uri).files[0]
    pl.DataFrame({"id": [1]}).write_parquet(Path(uri, file.path))

    with pytest.raises(NeedsAttention, match="the log says 2"):
        compact(uri)
    assert sorted(file.partition["p"] or "" for file in snapshot(uri).files) == ["a", "a", "a", "b"]


def test_a_live_file_that_is_missing_needs_a_person(uri: str) -> None:
    Path(uri, snapshot(uri).files[0].path).unlink()

    with pytest.raises(NeedsAttention, match="missing"):
        compact(uri)


def test_a_compaction_that_was_taken_over_drops_its_work_before_the_commit(uri: str) -> None:
    """It was held up while it wrote, for longer than its lease."""
    meddle = MeddlingStore(uri, lambda: compact(uri, clock=later()), early=True)
    done = compact(uri, meddle)

    assert (done.partitions, done.version) == (0, None)
    assert read(uri) == EXPECTED
    assert len(list(Path(uri).rglob("part-*"))) == 8, "its own files are gone"


def test_while_another_compacts_a_table_it_is_left_alone(uri: str) -> None:
    elsewhere: list[CompactResult] = []
    done = compact(uri, MeddlingStore(uri, lambda: elsewhere.append(compact(uri)), early=True))

    assert elsewhere == [CompactResult(is_elsewhere=True)]
    assert (done.partitions, done.conflicts) == (2, 0)


def test_a_table_can_ask_for_smaller_files(tmp_path: Path) -> None:
    uri = str(tmp_path)
    create_table(uri, SCHEMA, properties={"delta.targetFileSize": "2000"})
    log = TableLog.open(uri)
    for i in range(20):
        log.append(rows(i))
    compact(uri)

    assert len(snapshot(uri).files) > 2
    assert read(uri) == [(i, "a") for i in range(20)]


def delete_rows(uri: str, *deleted: Sequence[int]) -> None:
    """As another engine does it: a deletion vector for each of the oldest files."""

    def actions(now_ms: int) -> list[Action]:
        found: list[Action] = []
        for file, places in zip(snapshot(uri).files, deleted, strict=False):
            found.append(log.files.tombstone(file, deleted_ms=now_ms, data_change=True))
            found.append(
                Add(
                    path=file.path,
                    partition_values=file.partition,
                    size=file.bytes,
                    modification_time=round(file.modified_s * 1000),
                    data_change=True,
                    stats=file.stats,
                    deletion_vector=inline_vector(places),
                )
            )
        return found

    log = TableLog.open(uri)
    log.commit(actions, CommitInfo(), footprint=Footprint(Operation.APPEND))


def test_deleted_rows_and_their_vectors_are_gone_after_a_compaction(uri: str) -> None:
    """Of the first file one row is deleted, of the second both."""
    delete_rows(uri, [1], [0, 1])
    left = [row for row in EXPECTED if row[0] not in (1, 2, 3)]
    assert [(row["id"], row["p"]) for row in rows_of(uri)] == left
    done = compact(uri)

    assert done.rows == 9
    assert [file.deletion_vector for file in snapshot(uri).files] == [None, None]
    assert read(uri) == left


def test_a_file_of_which_every_row_is_deleted_is_removed_and_nothing_takes_its_place(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, partition_by=["p"])
    TableLog.open(uri).append(rows(1, 2))
    delete_rows(uri, [0, 1])
    done = compact(uri)

    assert (done.files_removed, done.files_added) == (1, 0)
    assert snapshot(uri).files == []


def test_a_delete_of_rows_meanwhile_wins(uri: str) -> None:
    """The path of the file stays live, with other rows in it."""
    done = compact(uri, MeddlingStore(uri, lambda: delete_rows(uri, [1])))

    assert (done.conflicts, done.partitions) == (1, 1)
    assert [row["id"] for row in rows_of(uri)] == [0, *range(2, 12)]


def rows_of(uri: str) -> list[dict[str, Any]]:
    log = TableLog.open(uri)
    found = [
        {**row, **file.partition}
        for file in snapshot(uri).files
        for batch in log.files.read(file)
        for row in batch.to_pylist()
    ]
    return sorted(found, key=lambda row: row["id"])


def test_a_kept_compactor_reads_only_what_is_new(uri: str) -> None:
    store = CountingStore(uri)
    compactor = Compactor(store, target_bytes=MIB, files_min=2)
    compactor.run_round()
    store.names_read.clear()
    assert compactor.run_round() == CompactResult()
    assert store.names_read == [f"_delta_log/{8:020d}.json"], "asked whether there is more"

    log = TableLog.open(uri)
    for i in range(12, 15):
        log.append(rows(i))
    store.names_read.clear()
    assert compactor.run_round().files_removed == 4
    assert not [name for name in store.names_read if "0000000007" in name or "check" in name]
    assert ids_in_file_order(uri, "a") == [0, 1, 4, 5, 8, 9, 12, 13, 14]
    compactor.close()


def test_a_file_of_sparks_old_calendar_is_told_once_and_its_neighbours_go_on(
    tmp_path: Path,
) -> None:
    """It may be neither copied nor written anew, and is nothing that a person must mend at once."""
    uri = str(tmp_path / "days")
    schema = pa.schema([("day", pa.date32())])
    days = [date(1500 if n == 6 else 2000, 1, n + 1) for n in range(12)]
    create_table(uri, schema)
    log = TableLog.open(uri)
    for day in days:
        log.append(pa.table({"day": [day]}, schema))
    old = snapshot(uri).files[6].path
    written = pa.table({"day": [days[6]]}, schema.with_metadata(OLD_SPARK))
    size = Path(uri, old).stat().st_size
    pq.write_table(written, Path(uri, old))
    entry = Path(uri, "_delta_log", f"{7:020d}.json")
    told = f'"size":{Path(uri, old).stat().st_size}'
    entry.write_text(entry.read_text().replace(f'"size":{size}', told))

    compactor = Compactor(uri, target_bytes=MIB, files_min=2)
    with pytest.raises(NeedsAttention, match="Rewrite them with Spark"):
        compactor.run_round()
    assert compactor.run_round().files_removed == 11
    assert compactor.run_round() == CompactResult()
    compactor.close()

    files = snapshot(uri).files
    assert [file.path == old for file in files] == [False, True, False]
    assert [day for file in files for day in read_days(uri, file.path)] == days


def read_days(uri: str, path: str) -> Any:
    return pq.read_table(Path(uri, path))["day"].to_pylist()


class CountingStore(LocalStore):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.names_read: list[str] = []

    def read(self, name: str) -> bytes | None:
        self.names_read.append(name)
        return super().read(name)


def test_a_kept_compactor_notices_another_table_in_the_place_of_its_own(uri: str) -> None:
    compactor = Compactor(uri, target_bytes=MIB, files_min=2)
    compactor.run_round()
    shutil.rmtree(uri)
    create_table(uri, SCHEMA, partition_by=["p"])
    log = TableLog.open(uri)
    for i in range(12):
        log.append(rows(100 + i))
    for _ in range(3):  # It finds out at a missing file, and that its lease is gone, too.
        compactor.run_round()
    compactor.close()

    assert read(uri) == [(100 + i, "a") for i in range(12)]
    assert len(snapshot(uri).files) == 1
