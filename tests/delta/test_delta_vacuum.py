"""Vacuum deletes what nobody can need, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuralake.clock import ManualClock
from neuralake.delta import (
    TableLog,
    VacuumedFile,
    VacuumResult,
    compact_once,
    create_table,
    snapshot,
    vacuum,
)
from neuralake.delta.actions import Add, CommitInfo, DeletionVector, Remove
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.lease import Lease
from neuralake.delta.log import read_entry
from neuralake.errors import CommitConflict
from neuralake.storage import Bytes, MemoryStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
HOUR = 3600.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """A table with four commits."""
    store = MemoryStore(clock=clock)
    fill(store, clock)
    return store


def fill(store: MemoryStore, clock: ManualClock, **properties: str) -> None:
    create_table(store, SCHEMA, partition_by=["p"], properties=properties, clock=clock)
    append(store, clock, 0, 1, 2, 3)


def append(store: MemoryStore, clock: ManualClock, *ids: int) -> None:
    log = TableLog.open(store, clock=clock)
    for i in ids:
        clock.advance(1)
        log.append(pa.table({"id": [i], "p": ["a b"]}, SCHEMA))


def compact(store: MemoryStore, clock: ManualClock) -> None:
    clock.advance(1)
    compact_once(store, target_bytes=2**20, files_min=2, clock=clock)


def clean(
    store: MemoryStore,
    clock: ManualClock,
    *,
    hours: float = 168,
    full: bool = False,
    dry_run: bool = False,
) -> VacuumResult:
    return vacuum(
        store, retention_hours=hours, orphan_age_hours=24, full=full, dry_run=dry_run, clock=clock
    )


def data_files(store: MemoryStore) -> set[str]:
    return {file.name for file in store.files() if file.name.endswith(".parquet")}


def read(store: MemoryStore, version: int | None = None) -> list[int]:
    """The ids of a version, out of the files that are really there."""
    log = TableLog.open(store)
    batches = [batch for file in snapshot(store, version).files for batch in log.files.read(file)]
    return sorted(i for batch in batches for i in batch["id"].to_pylist())


# Lite.


def test_replaced_files_go_when_the_retention_is_over(
    store: MemoryStore, clock: ManualClock
) -> None:
    compact(store, clock)
    clock.advance(168 * HOUR)
    assert clean(store, clock).count == 0, "not yet: exactly the retention"
    clock.advance(1)
    done = clean(store, clock)

    assert done.count == 4
    assert done.bytes > 0
    assert data_files(store) == {file.path.replace("%25", "%") for file in snapshot(store).files}
    assert read(store) == [0, 1, 2, 3]
    assert clean(store, clock).count == 0, "what is gone is not counted again"


def test_a_longer_retention_of_the_table_wins(clock: ManualClock) -> None:
    store = MemoryStore(clock=clock)
    fill(store, clock, **{"delta.deletedFileRetentionDuration": "interval 30 days"})
    compact(store, clock)
    clock.advance(29 * 24 * HOUR)
    assert clean(store, clock).count == 0
    clock.advance(2 * 24 * HOUR)
    assert clean(store, clock).count == 4


def test_a_shorter_retention_of_the_table_does_not_win(clock: ManualClock) -> None:
    store = MemoryStore(clock=clock)
    fill(store, clock, **{"delta.deletedFileRetentionDuration": "interval 1 hour"})
    compact(store, clock)
    clock.advance(2 * HOUR)
    assert clean(store, clock).count == 0


def test_lite_looks_at_no_file_that_the_log_does_not_mention(
    store: MemoryStore, clock: ManualClock
) -> None:
    store.put({"p=a%20b/part-orphan.parquet": b"x"})
    clock.advance(1000 * HOUR)

    assert clean(store, clock).count == 0
    assert "p=a%20b/part-orphan.parquet" in data_files(store)


def test_a_dry_run_says_what_and_why_and_changes_nothing(
    store: MemoryStore, clock: ManualClock
) -> None:
    compact(store, clock)
    store.put({"p=a%20b/part-orphan.parquet": b"123"})
    before = {file.name for file in store.files()}
    clock.advance(200 * HOUR)
    told = clean(store, clock, full=True, dry_run=True)

    assert told.is_dry_run
    assert told.count == 5
    (orphan,) = [file for file in told.files if "orphan" in file.name]
    assert orphan == VacuumedFile(
        "p=a%20b/part-orphan.parquet",
        3,
        200 * HOUR,
        "no version inside the retention mentions it",
    )
    (why,) = {file.why for file in told.files if file is not orphan}
    assert why == "replaced longer ago than the retention"
    assert {file.name for file in store.files()} == before
    assert clean(store, clock, full=True).files == told.files


# Paths that a log may have.


def put_entry(store: MemoryStore, clock: ManualClock, *actions: Add | Remove) -> None:
    TableLog.open(store, clock=clock).commit(
        lambda _: list(actions), CommitInfo(), footprint=Footprint(Operation.APPEND)
    )


def remove(path: str, clock: ManualClock, vector: DeletionVector | None = None) -> Remove:
    return Remove(
        path=path,
        deletion_timestamp=int(clock.now_s() * 1000),
        data_change=True,
        size=7,
        deletion_vector=vector,
    )


def add(path: str, clock: ManualClock, vector: DeletionVector | None = None) -> Add:
    return Add(
        path=path,
        partition_values={"p": "x"},
        size=7,
        modification_time=int(clock.now_s() * 1000),
        data_change=True,
        deletion_vector=vector,
    )


@pytest.mark.parametrize(
    "path",
    [
        "../other/file.parquet",
        "p=x/../../file.parquet",
        "/absolute/file.parquet",
        "s3://bucket/table/file.parquet",
        "_delta_log/00000000000000000000.json",
        "_neuralake/lease/vacuum/1.json",
        ".hidden/file.parquet",
        "p=x/.hidden.parquet",
    ],
)
def test_a_tombstone_outside_of_the_tables_data_deletes_nothing(
    store: MemoryStore, clock: ManualClock, path: str
) -> None:
    store.put({path: b"precious"}) if store.read(path) is None else None
    before = {file.name for file in store.files()}
    put_entry(store, clock, remove(path, clock))
    clock.advance(1000 * HOUR)

    assert clean(store, clock).count == 0
    assert clean(store, clock, full=True).count == 0
    assert before <= {file.name for file in store.files()} | {
        name for name in before if name.startswith("_neuralake")
    }
    assert store.read(path) is not None


@pytest.mark.parametrize(
    ("live", "stored"),
    [
        ("p=x/a%20b.parquet", "p=x/a b.parquet"),
        ("p=x/a%20b.parquet", "p=x/a%20b.parquet"),
        ("p=x/a b.parquet", "p=x/a b.parquet"),
        ("p=x/a b.parquet", "p=x/a%20b.parquet"),
        ("s3a://bucket/elsewhere/p=x/f.parquet", "p=x/f.parquet"),
        ("/data/table/p=x/f.parquet", "p=x/f.parquet"),
    ],
)
def test_a_file_that_any_reading_of_a_live_path_could_mean_is_kept(
    store: MemoryStore, clock: ManualClock, live: str, stored: str
) -> None:
    store.put({stored: b"1234567"})
    put_entry(store, clock, add(live, clock), remove(stored, clock))
    clock.advance(1000 * HOUR)

    assert clean(store, clock).count == 0
    assert clean(store, clock, full=True).count == 0


def test_deletion_vectors_stay_while_a_version_inside_the_retention_has_them(
    store: MemoryStore, clock: ManualClock
) -> None:
    name = "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
    vector = DeletionVector(
        storage_type="u",
        path_or_inline_dv="^-aqEH.-t@S}K{vb[*k^",  # The protocol's own example of this UUID.
        offset=1,
        size_in_bytes=36,
        cardinality=2,
    )
    store.put({name: b"v", "p=x/f.parquet": b"f"})
    put_entry(store, clock, add("p=x/f.parquet", clock, vector))
    clock.advance(1000 * HOUR)
    assert clean(store, clock, full=True).count == 0, "live"

    put_entry(store, clock, remove("p=x/f.parquet", clock, vector))
    clock.advance(100 * HOUR)
    assert clean(store, clock, full=True).count == 0, "inside the retention"
    put_entry(store, clock, add("p=x/f.parquet", clock))
    clock.advance(100 * HOUR)
    assert [file.name for file in clean(store, clock).files] == [name], "the file is back, alone"


# Full.


def test_full_takes_old_orphans_and_keeps_young_ones(
    store: MemoryStore, clock: ManualClock
) -> None:
    store.put({"p=a%20b/old.parquet": b"1", "deep/er/old.parquet": b"1"})
    clock.advance(12 * HOUR)
    store.put({"p=a%20b/young.parquet": b"1"})
    clock.advance(12.5 * HOUR)
    done = clean(store, clock, full=True)

    assert [file.name for file in done.files] == ["deep/er/old.parquet", "p=a%20b/old.parquet"]
    assert "p=a%20b/young.parquet" in data_files(store)
    assert read(store) == [0, 1, 2, 3]


def test_full_keeps_what_belongs_to_others(store: MemoryStore, clock: ManualClock) -> None:
    names = [
        "_neuralake/lease/compaction/00000000000000000001.json",
        "_other/engine.parquet",
        ".hidden/file.parquet",
        "inner/_delta_log/00000000000000000000.json",
        "inner/part-1.parquet",
        "_delta_log/_commit_0f.json.tmp",
        "_delta_log/.tmp/00000000000000000003.json.0f",
    ]
    store.put(dict.fromkeys(names, b"x"))
    clock.advance(1000 * HOUR)

    assert clean(store, clock, full=True).count == 0
    assert all(store.read(name) == b"x" for name in names)


def test_full_takes_what_killed_writes_left_aside(store: MemoryStore, clock: ManualClock) -> None:
    names = [f"p=a%20b/.part-1.parquet.{'0f' * 16}.tmp", f"_delta_log/.1.json.{'0f' * 16}.tmp"]
    store.put(dict.fromkeys(names, b"x"))
    clock.advance(23 * HOUR)
    assert clean(store, clock, full=True).count == 0
    clock.advance(2 * HOUR)
    assert clean(store, clock, full=True).count == 2


def test_change_files_stay_for_the_retention(store: MemoryStore, clock: ManualClock) -> None:
    store.put({"_change_data/cdc-1.parquet": b"x"})
    clock.advance(100 * HOUR)
    assert clean(store, clock, full=True).count == 0
    clock.advance(100 * HOUR)
    assert clean(store, clock, full=True).count == 1


def test_partition_columns_may_begin_with_an_underscore(clock: ManualClock) -> None:
    store = MemoryStore(clock=clock)
    create_table(
        store,
        pa.schema([("id", pa.int64()), ("_p", pa.string())]),
        partition_by=["_p"],
        clock=clock,
    )
    store.put({"_p=x/orphan.parquet": b"x", "_p=x/_SUCCESS": b""})
    clock.advance(1000 * HOUR)

    assert [file.name for file in clean(store, clock, full=True).files] == ["_p=x/orphan.parquet"]


def test_without_orphans_the_log_stays_as_it_is(store: MemoryStore, clock: ManualClock) -> None:
    clock.advance(1000 * HOUR)
    done = clean(store, clock, full=True)

    assert (done.count, done.version) == (0, None)
    assert snapshot(store).version == 4


def test_a_longer_retention_than_the_tables_keeps_what_checkpoints_have_forgotten(
    clock: ManualClock,
) -> None:
    """Its tombstones are only in the entries: the checkpoint is by another engine."""
    store = MemoryStore(clock=clock)
    fill(store, clock)
    compact(store, clock)
    clock.advance(30 * 24 * HOUR)
    forget_tombstones(store)

    assert clean(store, clock, hours=60 * 24, full=True).count == 0
    assert read(store, 4) == [0, 1, 2, 3]
    assert clean(store, clock, hours=20 * 24, full=True).count == 4


def forget_tombstones(store: MemoryStore) -> None:
    """As a checkpoint by the table's default retention of a week would."""
    found = snapshot(store)
    entry = read_entry(store, 0)
    assert entry is not None
    protocol = next(line.protocol for line in entry.lines if line.protocol)
    metadata = next(line.meta_data for line in entry.lines if line.meta_data)
    rows = [
        {"protocol": {"minReaderVersion": protocol.min_reader_version,
                      "minWriterVersion": protocol.min_writer_version}},
        {"metaData": {"id": metadata.id, "schemaString": metadata.schema_string,
                      "format": {"provider": "parquet", "options": []},
                      "partitionColumns": metadata.partition_columns, "configuration": []}},
        *(
            {"add": {"path": file.path, "partitionValues": [*file.partition.items()],
                     "size": file.bytes, "modificationTime": round(file.modified_s * 1000),
                     "dataChange": False, "stats": file.stats}}
            for file in found.files
        ),
    ]  # fmt: skip
    texts = pa.map_(pa.string(), pa.string())
    schema = pa.schema(
        [
            ("protocol", pa.struct([("minReaderVersion", pa.int32()),
                                    ("minWriterVersion", pa.int32())])),
            ("metaData", pa.struct([("id", pa.string()), ("schemaString", pa.string()),
                                    ("format", pa.struct([("provider", pa.string()),
                                                          ("options", texts)])),
                                    ("partitionColumns", pa.list_(pa.string())),
                                    ("configuration", texts)])),
            ("add", pa.struct([("path", pa.string()), ("partitionValues", texts),
                               ("size", pa.int64()), ("modificationTime", pa.int64()),
                               ("dataChange", pa.bool_()), ("stats", pa.string())])),
        ]
    )  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    store.put({f"_delta_log/{found.version:020d}.checkpoint.parquet": bytes(sink.getvalue())})


# Beside others.


class PausingStore(MemoryStore):
    """Lets somebody else act once, right before a log entry is put."""

    meddle: Callable[[], object] | None = None

    def put_if_absent(self, name: str, data: Bytes) -> None:
        if (meddle := self.meddle) is not None and name.startswith("_delta_log/"):
            self.meddle = None
            meddle()
        super().put_if_absent(name, data)


def test_a_commit_that_was_paused_for_days_does_not_refer_to_deleted_files(
    clock: ManualClock,
) -> None:
    store = PausingStore(clock=clock)
    fill(store, clock)
    log = TableLog.open(store, clock=clock)
    deleted: list[VacuumResult] = []

    def days_pass() -> None:
        clock.advance(48 * HOUR)
        deleted.append(clean(store, clock, full=True))

    store.meddle = days_pass
    log.append(pa.table({"id": [9], "p": ["a b"]}, SCHEMA))

    assert deleted[0].count == 1, "the file that it had stored"
    assert read(store) == [0, 1, 2, 3, 9], "it was stored anew"


def test_a_commit_that_comes_before_the_fence_keeps_its_files(clock: ManualClock) -> None:
    store = PausingStore(clock=clock)
    fill(store, clock)
    store.put({"p=x/late.parquet": b"1234567", "p=x/orphan.parquet": b"1"})
    clock.advance(48 * HOUR)
    # Between the listing and the fence: somebody whose pauses we do not know of.
    store.meddle = lambda: put_entry(store, clock, add("p=x/late.parquet", clock))
    done = clean(store, clock, full=True)

    assert [file.name for file in done.files] == ["p=x/orphan.parquet"]
    assert done.version == 6


def test_a_compaction_that_was_paused_for_days_drops_its_work(clock: ManualClock) -> None:
    store = PausingStore(clock=clock)
    fill(store, clock)

    def days_pass() -> None:
        clock.advance(48 * HOUR)
        clean(store, clock, full=True)

    store.meddle = days_pass
    compact(store, clock)
    assert read(store) == [0, 1, 2, 3]
    compact(store, clock)
    assert len(snapshot(store).files) == 1
    assert read(store) == [0, 1, 2, 3]


def test_two_vacuums_at_once_are_harmless(store: MemoryStore, clock: ManualClock) -> None:
    compact(store, clock)
    clock.advance(200 * HOUR)
    lease = Lease.take(store, "vacuum", clock=clock)
    assert lease is not None
    assert clean(store, clock) == VacuumResult(is_elsewhere=True)
    lease.release()
    assert clean(store, clock).count == 4


def test_the_fence_gives_up_where_the_log_is_another_one_now(clock: ManualClock) -> None:
    """Nothing is deleted by what was read from a table that is gone."""
    store = PausingStore(clock=clock)
    fill(store, clock)
    store.put({"p=x/orphan.parquet": b"1"})
    clock.advance(48 * HOUR)

    def replace() -> None:
        store.remove([file.name for file in store.files("_delta_log")])
        fill(store, clock)
        append(store, clock, *range(4, 9))

    store.meddle = replace
    try:
        clean(store, clock, full=True)
    except CommitConflict:
        assert "p=x/orphan.parquet" in data_files(store)
    assert read(store) == [*range(9)]
