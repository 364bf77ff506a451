"""Checkpoints of ours hold all that the log says, and every reader reads them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from log_maker import NOW_MS, SCHEMA, add, info, make_table, put_entry, remove, txn

from neuralake.clock import ManualClock
from neuralake.delta import (
    TableLog,
    Txn,
    checkpoint,
    checkpoint_if_due,
    compact_once,
    create_table,
    snapshot,
)
from neuralake.delta.log import FOLDER, entry_name
from neuralake.delta.replay import replay
from neuralake.errors import CommitConflict, NeedsAttention, UnsupportedFeature
from neuralake.storage import Bytes, LocalStore, LogStore, MemoryStore

POINTER = f"{FOLDER}/_last_checkpoint"
WEEK_MS = 7 * 86_400_000
CLOCK = ManualClock(NOW_MS / 1000)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    return LocalStore(tmp_path) if request.param == "local" else MemoryStore()


def filled(uri: str, *, properties: dict[str, str] | None = None) -> list[tuple[int, str]]:
    """A real table of some commits and a compaction; its rows."""
    create_table(uri, SCHEMA, partition_by=["p"], properties=properties)
    log, rows = TableLog.open(uri), []
    for i in range(6):
        batch = [(i, "a"), (100 + i, "b/ ö%"), (200 + i, "c=d")]
        log.append(pa.table(list(zip(*batch, strict=True)), SCHEMA.names), txn=Txn("app", i))
        rows += batch
    compact_once(uri, target_bytes=2**20, files_min=2)
    return sorted(rows)


def drop_entries(uri: str, before: int) -> None:
    LocalStore(uri).remove(entry_name(n) for n in range(before))


@pytest.mark.parametrize("checkpoints", [1, 2])
def test_delta_rs_and_polars_read_it_without_the_entries(tmp_path: Path, checkpoints: int) -> None:
    uri = str(tmp_path)
    rows = filled(uri)
    if checkpoints == 2:
        checkpoint(uri)
        TableLog.open(uri).append(pa.table({"id": [300], "p": ["e"]}, SCHEMA))
        rows += [(300, "e")]
    version = checkpoint(uri)
    drop_entries(uri, version)

    table = DeltaTable(uri)
    assert (table.version(), table.transaction_version("app")) == (version, 5)
    found = QueryBuilder().register("t", table).execute("SELECT * FROM t ORDER BY id").read_all()
    assert [tuple(row.values()) for row in pa.table(found).to_pylist()] == rows
    assert pl.scan_delta(uri).sort("id").collect().rows() == rows
    assert table.schema().to_arrow() is not None
    assert sorted(file.path for file in snapshot(uri).files) == sorted(
        pa.table(table.get_add_actions())["path"].to_pylist()
    )


def test_a_table_that_asks_for_the_second_form_gets_it(tmp_path: Path) -> None:
    uri = str(tmp_path)
    rows = filled(uri, properties={"delta.checkpointPolicy": "v2"})
    version = checkpoint(uri)
    drop_entries(uri, version)

    (name,) = (path.name for path in (tmp_path / FOLDER).glob("*.parquet"))
    assert name.startswith(f"{version:020d}.checkpoint.")
    assert len(name) == len(f"{version:020d}.checkpoint.{'x' * 36}.parquet")
    columns = pq.read_table(tmp_path / FOLDER / name)
    (told,) = columns["checkpointMetadata"].drop_null().to_pylist()
    assert told["version"] == version
    assert columns["sidecar"].null_count == len(columns)
    query = QueryBuilder().register("t", DeltaTable(uri))
    found = pa.table(query.execute("SELECT * FROM t ORDER BY id").read_all())
    assert [tuple(row.values()) for row in found.to_pylist()] == rows
    assert checkpoint(uri) == version


def actions(store: LogStore, kind: str) -> list[dict[str, Any]]:
    """The actions of one kind in the newest checkpoint, without what is null."""
    log = replay(store)
    name = f"{FOLDER}/{log.version:020d}.checkpoint.parquet"
    rows = pq.read_table(io.BytesIO(store.read(name) or b""))[kind].drop_null()
    found = rows.combine_chunks().to_pylist(maps_as_pydicts="strict")
    plain = [{key: value for key, value in row.items() if value is not None} for row in found]
    return sorted(plain, key=str)


def test_no_field_of_an_action_is_lost_over_any_number_of_checkpoints(store: LogStore) -> None:
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH", "offset": 4}
    vector |= {"sizeInBytes": 40, "cardinality": 2}
    known = {
        "tags": {"k": "v"},
        "deletionVector": vector,
        "baseRowId": 70,
        "defaultRowCommitVersion": 1,
        "clusteringProvider": "liquid",
    }
    gone = {"extendedFileMetadata": True, "partitionValues": {"p": ""}, "size": 5}
    gone |= {"baseRowId": 9, "defaultRowCommitVersion": 1, "deletionVector": vector}
    domain = {"domain": "d.e", "configuration": '{"a":1}', "removed": False}
    make_table(store)
    put_entry(store, 1, info(), add("x", **known), remove("y", **gone), txn("app", 3))
    put_entry(store, 2, info(), add("z", partitionValues={"p": None}), {"domainMetadata": domain})

    for version in (2, 3, 4):
        assert checkpoint(store, clock=CLOCK) == version
        adds, (tombstone,) = actions(store, "add"), actions(store, "remove")
        assert {**known, **adds[0]} == adds[0]
        assert adds[0]["stats"] == '{"numRecords":3}'
        assert {**gone, "path": "y", "deletionTimestamp": NOW_MS}.items() <= tombstone.items()
        assert actions(store, "domainMetadata") == [domain]
        assert actions(store, "txn") == [{"appId": "app", "version": 3}]
        assert len(actions(store, "protocol")) == len(actions(store, "metaData")) == 1
        put_entry(store, version + 1, info())


@pytest.mark.parametrize(
    ("properties", "kept"),
    [({}, ["new"]), ({"delta.deletedFileRetentionDuration": "interval 3 weeks"}, ["new", "old"])],
)
def test_tombstones_stay_until_they_expire(
    store: LogStore, properties: dict[str, str], kept: list[str]
) -> None:
    make_table(store, **properties)
    put_entry(store, 1, info(), remove("old", deletionTimestamp=NOW_MS - WEEK_MS))
    put_entry(store, 2, info(), remove("new", deletionTimestamp=NOW_MS - WEEK_MS + 1))
    put_entry(store, 3, info(), {"remove": {"path": "timeless", "dataChange": True}})
    checkpoint(store, clock=CLOCK)

    assert [row["path"] for row in actions(store, "remove")] == kept


def test_it_is_written_when_enough_commits_came_and_the_tables_word_counts(
    store: LogStore,
) -> None:
    def commit(count: int) -> None:
        for _ in range(count):
            put_entry(store, replay(store).version + 1, info())

    make_table(store, **{"delta.checkpointInterval": "3"})
    commit(2)
    assert checkpoint_if_due(store, commits=2) is None
    commit(1)
    assert checkpoint_if_due(store, commits=100) == 3
    commit(2)
    assert checkpoint_if_due(store, commits=1) is None
    commit(2)
    assert checkpoint_if_due(store, commits=100) == 7
    assert checkpoint_if_due(store, commits=100) is None


def test_a_large_checkpoint_waits_for_more_commits() -> None:
    store = MemoryStore()
    make_table(store)
    # 20,000 rows of checkpoint are worth at least four commits.
    put_entry(store, 1, *(add(f"f-{i}.parquet") for i in range(20_000)))
    assert checkpoint(store, clock=CLOCK) == 1
    for version in (2, 3, 4):
        put_entry(store, version, info())
        assert checkpoint_if_due(store, commits=2, clock=CLOCK) is None
    put_entry(store, 5, info())
    assert checkpoint_if_due(store, commits=2, clock=CLOCK) == 5


def test_without_pointer_and_first_entry_the_log_is_looked_at(store: LogStore) -> None:
    make_table(store)
    for n in range(1, 6):
        put_entry(store, n, info())
    checkpoint(store)
    put_entry(store, 6, info())
    store.remove([POINTER, entry_name(0)])

    assert checkpoint_if_due(store, commits=100) == 6


def test_the_pointer_never_goes_back(store: LogStore) -> None:
    make_table(store)
    put_entry(store, 1, info())
    checkpoint(store)
    newest = store.read(POINTER)
    assert newest is not None
    store.put({POINTER: newest.replace(b'"version":1', b'"version":9')})
    put_entry(store, 2, info())
    checkpoint(store)

    assert b'"version":9' in (store.read(POINTER) or b"")
    assert replay(store).version == 2


class ReplacedMeanwhile(LocalStore):
    """Another table takes this one's place while a checkpoint is written."""

    @property
    def is_armed(self) -> bool:
        return getattr(self, "armed", False)

    def read(self, name: str) -> bytes | None:
        if self.is_armed and name == entry_name(2) and self.began:
            shutil.rmtree(self.uri)
            create_table(self.uri, SCHEMA)
            self.armed = False
        return super().read(name)

    def create(self, name: str) -> Any:
        self.began = True
        return super().create(name)

    armed = False
    began = False


def test_a_table_that_took_the_place_of_another_does_not_get_its_checkpoint(tmp_path: Path) -> None:
    store = ReplacedMeanwhile(tmp_path)
    make_table(store)
    put_entry(store, 1, info(), add("x"))
    put_entry(store, 2, info(), add("y"))
    store.armed = True

    with pytest.raises(CommitConflict):
        checkpoint(store)
    assert (snapshot(store).version, snapshot(store).files) == (0, [])


class Rotten(MemoryStore):
    """Forgets a part of each checkpoint, and says nothing."""

    def put(self, files: Any) -> None:
        def rot(name: str, data: Bytes) -> Bytes:
            return data[: len(data) // 2] if name.endswith(".checkpoint.parquet") else data

        super().put({name: rot(name, data) for name, data in files.items()})


def test_a_checkpoint_that_does_not_read_back_is_removed() -> None:
    store = Rotten()
    make_table(store)
    put_entry(store, 1, info(), add("x"))

    with pytest.raises(NeedsAttention, match="read back"):
        checkpoint(store)
    assert [name for name in store.names(FOLDER) if "check" in name] == []
    assert snapshot(store).version == 1


def test_what_we_cannot_write_as_the_table_wants_it_is_refused(store: LogStore) -> None:
    make_table(store, **{"delta.checkpoint.writeStatsAsJson": "false"})
    with pytest.raises(UnsupportedFeature, match="writeStatsAsJson"):
        checkpoint(store)
