"""The log read by our own code says what it says, whatever the hint and the listing tell."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_maker import NOW_MS, add, entry, info, make_table, put_entry, put_pointer, remove, txn

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, checkpoint, snapshot
from neuralake.delta.checkpoint_schema import TYPES, from_json
from neuralake.delta.log import FOLDER, entry_name
from neuralake.delta.replay import replay
from neuralake.errors import NeedsAttention, UnknownName
from neuralake.storage import LocalStore, LogStore, MemoryStore

POINTER = f"{FOLDER}/_last_checkpoint"


class FarStore(MemoryStore):
    """A store where asking takes long, so that listings and reads ahead are used."""

    @property
    def stamp_age_s_max(self) -> float:
        return 10.0


@pytest.fixture(params=["local", "memory", "far"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    made: dict[str, LogStore] = {
        "local": LocalStore(tmp_path),
        "memory": MemoryStore(),
        "far": FarStore(),
    }
    return made[request.param]


def paths(store: LogStore, version: int | None = None) -> list[str]:
    return sorted(file.path for file in snapshot(store, version).files)


def table_of(store: LogStore, *, commits: int) -> None:
    """Entry n adds file fn; every third removes the one before."""
    make_table(store)
    for n in range(1, commits + 1):
        gone = [remove(f"f{n - 1}")] if n % 3 == 0 else []
        put_entry(store, n, info(NOW_MS + n), txn("app", n), *gone, add(f"f{n}"))


def expected(version: int) -> list[str]:
    return sorted(f"f{n}" for n in range(1, version + 1) if (n + 1) % 3 or n == version)


def test_every_version_is_what_its_entries_say(store: LogStore) -> None:
    table_of(store, commits=40)

    assert [paths(store, version) for version in range(41)] == [expected(n) for n in range(41)]
    assert snapshot(store, 7).txn("app") == 7
    assert snapshot(store).txn("other") is None
    assert replay(store).timestamp_ms == NOW_MS + 40


@pytest.mark.parametrize("checkpoints", [[3], [3, 9], [20], [5, 10, 15, 20]])
def test_checkpoints_change_nothing(store: LogStore, checkpoints: list[int]) -> None:
    make_table(store)
    for n in range(1, 21):
        gone = [remove(f"f{n - 1}")] if n % 3 == 0 else []
        put_entry(store, n, info(NOW_MS + n), txn("app", n), *gone, add(f"f{n}"))
        if n in checkpoints:
            assert checkpoint(store) == n

    assert [paths(store, version) for version in range(21)] == [expected(n) for n in range(21)]
    found = replay(store)
    assert found.checkpoint is not None
    assert found.checkpoint.version == checkpoints[-1]
    assert (found.version, found.txns["app"].version) == (20, 20)
    assert (found.newest_ms, found.timestamp_ms) == (NOW_MS, NOW_MS + 20)


def test_entries_that_a_checkpoint_covers_are_not_needed(store: LogStore) -> None:
    table_of(store, commits=12)
    checkpoint(store)
    put_entry(store, 13, info(), add("f13"))
    store.remove(entry_name(n) for n in range(12))

    assert paths(store) == sorted({*expected(12), "f13"})
    with pytest.raises(UnknownName, match="gone") as caught:
        snapshot(store, 5)
    assert (caught.value.kind, caught.value.newest) == ("version", 13)


@pytest.mark.parametrize(
    "pointer",
    [
        b"",
        b'{"version":1',
        b"[]",
        b'{"version":"x"}',
        b'{"version":8,"size":1,"parts":3}',
        b'{"version":99,"size":1}',
        b'{"version":2,"size":1}',
        b'{"version":8,"size":1,"v2Checkpoint":{"path":"../../elsewhere.parquet"}}',
    ],
)
def test_a_torn_or_wrong_pointer_is_only_a_hint(store: LogStore, pointer: bytes) -> None:
    table_of(store, commits=8)
    checkpoint(store)
    put_entry(store, 9, info(), remove("f8"), add("f9"))
    store.remove(entry_name(n) for n in range(8))
    store.put({POINTER: pointer})

    assert paths(store) == expected(9)


def test_an_old_pointer_does_not_hide_what_came_after_a_clean_up(store: LogStore) -> None:
    """The entry after the old checkpoint is gone: that is not the end of the log."""
    table_of(store, commits=4)
    checkpoint(store)
    old = store.read(POINTER)
    assert old is not None
    for n in range(5, 11):
        put_entry(store, n, info(), add(f"g{n}"))
    checkpoint(store)
    put_entry(store, 11, info(), add("g11"))
    store.put({POINTER: old})
    store.remove(entry_name(n) for n in range(9))

    assert replay(store).version == 11
    assert TableLog.open(store).version == 11


def test_a_torn_checkpoint_is_passed_over_for_an_older_one_or_the_entries(store: LogStore) -> None:
    table_of(store, commits=10)
    checkpoint(store)
    whole = store.read(f"{FOLDER}/{10:020d}.checkpoint.parquet")
    assert whole is not None
    for torn in (b"", whole[: len(whole) // 2], whole[:-1], b"PAR1" + whole[8:]):
        store.put({f"{FOLDER}/{10:020d}.checkpoint.parquet": torn})
        assert paths(store) == expected(10)
    store.remove([entry_name(4)])
    with pytest.raises(NeedsAttention, match="entry 4 is missing"):
        snapshot(store)


def as_parts(store: LogStore, version: int, parts: int) -> list[str]:
    """The checkpoint of `version` as several files; their names."""
    name = f"{FOLDER}/{version:020d}.checkpoint"
    whole = pq.read_table(io.BytesIO(store.read(f"{name}.parquet") or b""))
    names = []
    for part in range(parts):
        rows, sink = whole.take(list(range(part, len(whole), parts))), io.BytesIO()
        pq.write_table(rows, sink)
        names.append(f"{name}.{part + 1:010d}.{parts:010d}.parquet")
        store.put({names[-1]: sink.getvalue()})
    store.remove([f"{name}.parquet"])
    return names


def test_a_checkpoint_in_parts_is_read_and_half_of_one_is_not(store: LogStore) -> None:
    table_of(store, commits=9)
    checkpoint(store)
    names = as_parts(store, 9, parts=3)
    put_pointer(store, version=9, parts=3)

    found = replay(store)
    assert found.checkpoint is not None
    assert len(found.checkpoint.name.files) == 3
    assert paths(store) == expected(9)

    store.remove(names[1:2])
    assert replay(store).checkpoint is None
    assert paths(store) == expected(9)


@pytest.mark.parametrize("form", ["json", "parquet"])
@pytest.mark.parametrize("is_pointed_at", [True, False])
def test_second_form_checkpoints_with_sidecars_are_read(
    store: LogStore, form: str, is_pointed_at: bool
) -> None:
    table_of(store, commits=9)
    log = replay(store)
    checkpoint(store)
    classic = f"{FOLDER}/{9:020d}.checkpoint.parquet"
    rows = pq.read_table(io.BytesIO(store.read(classic) or b""))
    files = rows.filter(pa.compute.or_(rows["add"].is_valid(), rows["remove"].is_valid()))
    sidecars = {}
    for i, part in enumerate((files.slice(0, 2), files.slice(2))):
        sink = io.BytesIO()
        pq.write_table(part.select(["add", "remove"]), sink)
        sidecars[f"_sidecars/s{i}.parquet"] = sink.getvalue()
    store.put({f"{FOLDER}/{name}": data for name, data in sidecars.items()})
    name = f"{9:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.{form}"
    top = [
        {"checkpointMetadata": {"version": 9}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": json.loads(json.dumps(metadata_of(store)))},
        txn("app", 9),
        *(
            {"sidecar": {"path": f"s{i}.parquet", "sizeInBytes": 1, "modificationTime": 1}}
            for i in range(2)
        ),
    ]
    store.put({f"{FOLDER}/{name}": entry(*top) if form == "json" else as_parquet(top)})
    store.remove([classic, *(entry_name(n) for n in range(9))])
    if is_pointed_at:
        put_pointer(store, version=9, v2Checkpoint={"path": name})

    found = replay(store)
    assert found.checkpoint is not None
    assert found.checkpoint.sidecars == ("s0.parquet", "s1.parquet")
    assert (found.metadata, found.newest_ms) == (log.metadata, NOW_MS)
    assert found.txns["app"].version == 9
    assert paths(store) == expected(9)

    store.remove([f"{FOLDER}/_sidecars/s1.parquet"])
    with pytest.raises(NeedsAttention):
        replay(store)


def metadata_of(store: LogStore) -> object:
    lines = (store.read(entry_name(0)) or b"").splitlines()
    return next(json.loads(line)["metaData"] for line in lines if b'"metaData"' in line[:12])


def as_parquet(actions: list[dict[str, object]]) -> bytes:
    names = {name for action in actions for name in action}
    columns = {
        name: pa.concat_arrays(
            [
                from_json([action[name]], TYPES[name])  # type: ignore[list-item]  # plain dicts
                if name in action
                else pa.array([None], TYPES[name])
                for action in actions
            ]
        )
        for name in names
    }
    sink = io.BytesIO()
    schema = pa.schema([(name, TYPES[name]) for name in names])
    pq.write_table(pa.table(columns, schema), sink)
    return sink.getvalue()


def test_a_missing_entry_is_never_the_end_of_the_log(store: LogStore) -> None:
    table_of(store, commits=8)
    store.remove([entry_name(6)])

    for read in (snapshot, TableLog.open):
        with pytest.raises(NeedsAttention, match="entry 6"):
            read(store)
    assert paths(store, 5) == expected(5)


def test_an_entry_missing_right_after_the_checkpoint_is_noticed(store: LogStore) -> None:
    table_of(store, commits=5)
    checkpoint(store)
    put_entry(store, 6, info(), add("f6"))
    put_entry(store, 7, info(), add("f7"))
    store.remove([entry_name(6)])

    with pytest.raises(NeedsAttention, match="entry 6"):
        TableLog.open(store)


@pytest.mark.parametrize("damage", [b"", b"\n", b'{"add":', b"\x00" * 40])
def test_a_damaged_entry_stops_everything(store: LogStore, damage: bytes) -> None:
    table_of(store, commits=3)
    store.put({entry_name(2): damage})

    with pytest.raises(NeedsAttention, match="entry 2") as caught:
        TableLog.open(store)
    assert caught.value.version == 2


class TornListings(MemoryStore):
    """Each of the first listings misses one entry that is there."""

    listings = 3

    def names(self, folder: str, *, after: str = "") -> list[str]:
        found = super().names(folder, after=after)
        if self.listings and len(found) > 4:
            self.listings -= 1
            del found[2 + self.listings % 2]
        return found


class TornFarListings(TornListings, FarStore):
    """The same, where entries are read as they were listed."""


@pytest.mark.parametrize("kind", [TornListings, TornFarListings])
def test_a_torn_listing_is_no_gap(kind: type[TornListings]) -> None:
    store = kind()
    store.listings = 0
    table_of(store, commits=8)
    store.listings = 3

    assert paths(store) == expected(8)


def test_what_is_not_there_is_said(store: LogStore) -> None:
    with pytest.raises(UnknownName) as caught:
        snapshot(store)
    assert caught.value.kind == "table"
    table_of(store, commits=3)
    for version in (4, 99, -1):
        with pytest.raises(UnknownName, match=f"no version {version}") as caught:
            snapshot(store, version)
        assert (caught.value.kind, caught.value.newest) == ("version", 3)


def test_paths_are_urls_and_a_vector_is_part_of_a_files_name(store: LogStore) -> None:
    vector = {"storageType": "u", "pathOrInlineDv": "ab", "sizeInBytes": 4, "cardinality": 1}
    make_table(store)
    put_entry(store, 1, info(), add("p=a%20b/x"), add("y"))
    put_entry(store, 2, info(), remove("p=a b/x"), remove("y"), add("y", deletionVector=vector))
    checkpoint(store, clock=ManualClock(NOW_MS / 1000))
    newer = {**vector, "offset": 7, "cardinality": 2}
    put_entry(store, 3, info(), remove("y", deletionVector=vector), add("y", deletionVector=newer))

    (file,) = snapshot(store).files
    assert (file.path, file.rows, file.live_rows) == ("y", 3, 1)
    assert file.deletion_vector is not None
    assert file.deletion_vector.offset == 7
    assert snapshot(store).rows == 1
    assert [row["path"] for row in tombstones(store)] == ["p=a b/x", "y", "y"]


def tombstones(store: LogStore) -> list[dict[str, object]]:
    batches = replay(store).files.removes(("path",))
    return sorted((row for batch in batches for row in batch.to_pylist()), key=str)


def test_removed_domains_are_gone_and_the_last_txn_counts(store: LogStore) -> None:
    def domain(name: str, text: str, *, removed: bool = False) -> dict[str, object]:
        return {"domainMetadata": {"domain": name, "configuration": text, "removed": removed}}

    make_table(store)
    put_entry(store, 1, info(), domain("a", "1"), domain("b", "1"), txn("app", 5))
    checkpoint(store)
    put_entry(store, 2, info(), domain("a", "", removed=True), domain("b", "2"), txn("app", 4))

    for _ in range(2):
        found = snapshot(store)
        assert {name: one.configuration for name, one in found.domains.items()} == {"b": "2"}
        assert found.txn("app") == TableLog.open(store).committed("app") == 4
        checkpoint(store)
