"""Appends: each transaction once, whatever comes between; what we cannot do is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.schema import PrimitiveType

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, Txn, checkpoint, create_table, exists, snapshot
from neuralake.delta.actions import encode_entry
from neuralake.delta.log import entry_name, read_entry
from neuralake.errors import (
    SchemaMismatch,
    Unavailable,
    UnknownName,
    UnsupportedFeature,
    UsageError,
)
from neuralake.storage import AlreadyThere, Bytes, LocalStore, OutcomeUnknown

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])


def rows(*ids: int, p: str = "a") -> pa.Table:
    return pa.table({"id": list(ids), "p": [p] * len(ids)}, SCHEMA)


def ids(uri: str) -> list[int]:
    return sorted(pl.scan_delta(uri).collect()["id"].to_list())


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, partition_by=["p"])
    return uri


def data_files(uri: str) -> list[str]:
    return sorted(path.name for path in Path(uri).rglob("part-*.parquet"))


def test_creating_a_table_again_changes_nothing(uri: str) -> None:
    TableLog.open(uri).append(rows(1))

    assert create_table(uri, SCHEMA, partition_by=["p"]) == 1
    assert ids(uri) == [1]


@pytest.mark.parametrize(
    ("schema", "partition_by", "column"),
    [
        (pa.schema([("id", pa.int32()), ("p", pa.string())]), ["p"], "id"),
        (pa.schema([("id", pa.int64()), ("p", pa.string()), ("x", pa.int8())]), ["p"], "x"),
        (pa.schema([("id", pa.int64())]), [], "p"),
        (SCHEMA, [], "p"),
    ],
)
def test_creating_another_table_in_its_place_names_the_column(
    uri: str, schema: pa.Schema, partition_by: list[str], column: str
) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        create_table(uri, schema, partition_by=partition_by)
    assert caught.value.column == column


def test_opening_what_is_not_there_says_so(tmp_path: Path) -> None:
    assert not exists(str(tmp_path / "nothing"))
    with pytest.raises(UnknownName) as caught:
        TableLog.open(str(tmp_path / "nothing"))
    assert caught.value.kind == "table"


def test_a_place_that_we_cannot_commit_to_is_refused() -> None:
    with pytest.raises(UsageError, match="gs://bucket/table"):
        TableLog.open("gs://bucket/table")


def test_properties_and_description_are_the_tables(tmp_path: Path) -> None:
    uri = str(tmp_path)
    create_table(uri, SCHEMA, description="What it is.", properties={"delta.appendOnly": "true"})
    metadata = DeltaTable(uri).metadata()

    assert metadata.description == "What it is."
    assert metadata.configuration == {
        "delta.appendOnly": "true",
        "neuralake.coordination": "local",
    }


def test_a_table_without_zoneless_times_has_the_simplest_protocol(tmp_path: Path) -> None:
    create_table(str(tmp_path / "plain"), SCHEMA)
    create_table(str(tmp_path / "ntz"), pa.schema([("at", pa.list_(pa.timestamp("us")))]))

    assert DeltaTable(tmp_path / "plain").protocol()[:2] == (1, 2)
    found = DeltaTable(tmp_path / "ntz").protocol()
    assert found[:2] == (3, 7)
    assert found.reader_features == found.writer_features == ["timestampNtz"]


def test_a_repeated_transaction_adds_nothing_in_any_handle(uri: str) -> None:
    first, second = TableLog.open(uri), TableLog.open(uri)
    done = first.append(rows(1, 2), txn=Txn("app", 7))

    assert (done.version, done.repeated, done.rows, done.files) == (1, False, 2, 1)
    for log in [first, second, TableLog.open(uri)]:
        again = log.append(rows(1, 2), txn=Txn("app", 7))
        assert (again.version, again.repeated, again.files) == (1, True, 0)
        assert log.append(rows(1, 2), txn=Txn("app", 3)).repeated
    assert ids(uri) == [1, 2]
    assert len(data_files(uri)) == 1, "the file of the handle that lost is removed"


def test_transactions_of_different_applications_do_not_touch(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1), txn=Txn("one", 5))
    log.append(rows(2), txn=Txn("two", 5))

    assert ids(uri) == [1, 2]
    assert log.committed("one") == log.committed("two") == 5
    assert log.committed("three") is None


def test_committed_knows_what_other_handles_did_after_a_refresh(uri: str) -> None:
    reader = TableLog.open(uri)
    assert reader.committed("app") is None
    TableLog.open(uri).append(rows(1), txn=Txn("app", 9))

    assert reader.refresh() == 1
    assert reader.committed("app") == 9
    assert snapshot(uri).txn("app") == 9


def test_no_rows_commit_nothing_but_a_transaction_is_kept(uri: str) -> None:
    log = TableLog.open(uri)

    assert log.append(rows()).version == 0
    assert log.append(rows(), txn=Txn("app", 4)).version == 1
    assert snapshot(uri).txn("app") == 4


def test_a_lost_race_reads_the_entries_in_between_and_commits_after_them(uri: str) -> None:
    slow, quick = TableLog.open(uri), TableLog.open(uri)
    for i in range(5):
        quick.append(rows(i))

    assert slow.append(rows(9)).version == 6
    assert ids(uri) == [0, 1, 2, 3, 4, 9]


def test_commits_of_deltalake_and_ours_follow_each_other(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1))
    theirs = CommitProperties(app_transactions=[Transaction("app", 3)])
    write_deltalake(uri, rows(2, p="b"), mode="append", commit_properties=theirs)

    assert log.append(rows(2, p="b"), txn=Txn("app", 3)).repeated
    assert log.append(rows(3), txn=Txn("app", 4)).version == 3
    assert ids(uri) == [1, 2, 3]


def test_a_checkpoint_in_between_disturbs_nobody(uri: str) -> None:
    kept = TableLog.open(uri)
    kept.append(rows(1), txn=Txn("app", 1))
    assert checkpoint(uri) == 1
    kept.append(rows(2), txn=Txn("app", 2))

    opened = TableLog.open(uri)
    assert (opened.version, opened.committed("app")) == (2, 2)
    assert opened.append(rows(2), txn=Txn("app", 2)).repeated
    assert ids(uri) == [1, 2]


def test_rows_keep_their_order_within_a_partition(uri: str) -> None:
    mixed = pa.table({"id": list(range(1000)), "p": [f"p{i % 7}" for i in range(1000)]}, SCHEMA)
    TableLog.open(uri).append(mixed)

    for _, part in pl.scan_delta(uri).collect().group_by("p", maintain_order=True):
        assert part["id"].is_sorted()
    assert len(snapshot(uri).files) == 7


def test_files_of_later_commits_are_later_although_the_clock_goes_back(uri: str) -> None:
    clock = ManualClock()
    log, other = TableLog.open(uri, clock=clock), TableLog.open(uri, clock=clock)
    log.append(rows(1))
    other.append(rows(2))
    log.append(rows(3))
    clock.advance(-1000)
    TableLog.open(uri, clock=clock).append(rows(4))

    modified = [file.modified_s for file in snapshot(uri).files]
    assert len(set(modified)) == 4
    assert [file.rows for file in snapshot(uri).files] == [1, 1, 1, 1]


def test_a_new_nullable_column_of_deltalake_is_filled_with_nulls(uri: str) -> None:
    log = TableLog.open(uri)
    DeltaTable(uri).alter.add_columns([Field("extra", PrimitiveType("double"))])
    log.append(rows(1), txn=Txn("app", 1))

    assert log.schema.names == ["id", "p", "extra"]
    assert pl.scan_delta(uri).collect().rows() == [(1, "a", None)]


def test_rows_that_a_changed_schema_no_longer_takes_are_refused(uri: str) -> None:
    log = TableLog.open(uri)
    changed = pa.table({"id": ["x"], "p": ["a"]})
    write_deltalake(uri, changed, mode="overwrite", schema_mode="overwrite", partition_by=["p"])

    with pytest.raises(SchemaMismatch) as caught:
        log.append(rows(1))
    assert caught.value.column == "id"
    assert len(data_files(uri)) == 1, "only deltalake's file is left"


def test_a_changed_partitioning_is_followed(uri: str) -> None:
    log = TableLog.open(uri)
    whole = msgspec.structs.replace(log.state.metadata, partition_columns=[])
    LocalStore(uri).put_if_absent(entry_name(1), encode_entry([whole]))
    TableLog.open(uri).append(rows(1))
    log.append(rows(2, p="b"))

    assert snapshot(uri).partition_by == ()
    assert pl.scan_delta(uri).collect().sort("id").rows() == [(1, "a"), (2, "b")]


def test_a_constraint_added_meanwhile_stops_the_next_append(uri: str) -> None:
    log = TableLog.open(uri)
    DeltaTable(uri).alter.add_constraint({"positive": "id > 0"})

    with pytest.raises(UnsupportedFeature) as caught:
        log.append(rows(-1))
    assert caught.value.features == ["checkConstraints"]
    assert data_files(uri) == []


def test_null_in_a_column_that_is_not_nullable_is_refused_with_its_row(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    create_table(str(tmp_path), schema)

    with pytest.raises(SchemaMismatch) as caught:
        TableLog.open(str(tmp_path)).append(pa.table([pa.array([1, None])], schema))
    assert (caught.value.column, caught.value.row) == ("id", 1)


def test_a_handle_that_slept_opens_the_table_anew(uri: str) -> None:
    """The entries after its own may have been cleaned up; its next name is then free again."""
    clock = ManualClock()
    log, other = TableLog.open(uri, clock=clock), TableLog.open(uri)
    for i in range(3):
        other.append(rows(i), txn=Txn("app", i))
    checkpoint(uri)
    for version in range(3):
        Path(uri, entry_name(version)).unlink()
    clock.advance(2 * 3600)

    assert log.append(rows(2), txn=Txn("app", 2)).repeated
    assert log.append(rows(3), txn=Txn("app", 3)).version == 4
    assert ids(uri) == [0, 1, 2, 3]


class DoubtfulStore(LocalStore):
    """Does each put of a log entry as told: `stored` and `lost` both leave the outcome unknown."""

    def __init__(self, folder: str, fates: Iterator[str]) -> None:
        super().__init__(folder)
        self._fates = fates

    def put_if_absent(self, name: str, data: Bytes) -> None:
        fate = next(self._fates, "answered")
        if fate != "lost":
            super().put_if_absent(name, data)
        if fate == "twice":  # As a client does that repeats a put whose answer was lost.
            raise AlreadyThere(name, name=name)
        if fate != "answered":
            raise OutcomeUnknown(name, name=name)


@pytest.mark.parametrize("fates", [["stored"], ["twice"], ["lost"], ["lost", "lost", "stored"]])
@pytest.mark.parametrize("txn", [None, Txn("app", 1)])
def test_an_unknown_outcome_is_looked_up(uri: str, fates: list[str], txn: Txn | None) -> None:
    log = TableLog.open(DoubtfulStore(uri, iter(fates)))
    done = log.append(rows(1), txn=txn)

    assert (done.version, done.repeated) == (1, False)
    assert ids(uri) == [1]


def test_an_outcome_that_stays_unknown_keeps_the_files_and_may_be_repeated(uri: str) -> None:
    log = TableLog.open(DoubtfulStore(uri, iter(["lost"] * 5)))
    with pytest.raises(OutcomeUnknown):
        log.append(rows(1), txn=Txn("app", 1))

    assert len(data_files(uri)) == 1
    assert not log.append(rows(1), txn=Txn("app", 1)).repeated
    assert ids(uri) == [1]


class FullStore(LocalStore):
    """Fails in one of its puts as a full disk does."""

    def __init__(self, folder: str, fails: str) -> None:
        super().__init__(folder)
        self.fails = fails

    def put_if_absent(self, name: str, data: Bytes) -> None:
        if self.fails == "log":
            raise Unavailable("No space left.", name=name)
        super().put_if_absent(name, data)

    def put(self, files: Mapping[str, Bytes]) -> None:
        if self.fails == "data":
            raise Unavailable("No space left.")
        super().put(files)


@pytest.mark.parametrize("fails", ["data", "log"])
def test_a_full_disk_leaves_nothing_and_the_same_call_works_later(uri: str, fails: str) -> None:
    store = FullStore(uri, fails)
    log = TableLog.open(store)
    with pytest.raises(Unavailable):
        log.append(rows(1), txn=Txn("app", 1))

    assert data_files(uri) == []
    store.fails = "nothing"
    assert log.append(rows(1), txn=Txn("app", 1)).version == 1
    assert ids(uri) == [1]


def test_an_entry_tells_who_committed_what(uri: str) -> None:
    TableLog.open(uri).append(rows(1), txn=Txn("app", 1))
    entry = read_entry(LocalStore(uri), 1)

    assert entry is not None
    info, txn, add = entry.lines
    assert info.commit_info is not None
    assert info.commit_info.operation == "STREAMING UPDATE"
    assert info.commit_info.engine_info is not None
    assert info.commit_info.engine_info.startswith("neuralake/")
    assert txn.txn is not None
    assert add.add is not None
    assert msgspec.json.decode(add.add.stats or "")["numRecords"] == 1
    assert DeltaTable(uri).history(1)[0]["operation"] == "STREAMING UPDATE"
