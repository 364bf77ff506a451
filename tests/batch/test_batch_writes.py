"""Each batch write does what it says, once, and touches no file that it need not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable as Rival
from deltalake import QueryBuilder, write_deltalake

from neuralake.batch import BatchResult, BatchWriter
from neuralake.catalog import Catalog
from neuralake.delta import TableLog, create_table, snapshot
from neuralake.delta.files import store_name
from neuralake.errors import (
    InvalidRows,
    SchemaMismatch,
    UnknownName,
    UnsupportedFeature,
    UsageError,
)
from neuralake.filters import Filter, Filters
from neuralake.settings import Settings
from neuralake.storage import MemoryStore
from neuralake.tables import DeltaTable, ParquetTable

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string()), ("x", pa.float64())])


def rows(*triples: tuple[Any, ...]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, each, strict=True)) for each in triples], schema=SCHEMA
    )


START = rows((1, "a", 1.0), (2, "a", None), (3, "b", 3.0), (4, None, 4.0))


@pytest.fixture
def table(tmp_path: Path) -> BatchWriter:
    """Rows 1 to 4 in the partitions a, b and null."""
    writer = BatchWriter(str(tmp_path / "t"), schema=SCHEMA, partition_by=["site"], name="lab.t")
    writer.append(START)
    return writer


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "t")


def read(uri: str) -> list[tuple[Any, ...]]:
    """The table by id, on which delta-rs and Polars must agree."""
    found = pl.scan_delta(uri).sort("id").collect()
    query = QueryBuilder().register("t", Rival(uri)).execute("SELECT * FROM t ORDER BY id")
    rival = pl.DataFrame(pa.table(query.read_all()))
    assert rival.select(found.columns).cast(found.schema).equals(found)
    return found.select(SCHEMA.names).rows()


def paths(uri: str) -> set[str]:
    return {file.path for file in snapshot(uri).files}


def entry(uri: str, version: int) -> list[dict[str, Any]]:
    text = Path(uri, "_delta_log", f"{version:020d}.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_delete_removes_what_a_frame_with_the_same_filters_shows(
    table: BatchWriter, uri: str
) -> None:
    done = table.delete(Filter("x", "<", 3.5))

    assert read(uri) == [(2, "a", None), (4, None, 4.0)], "null is not less than anything"
    assert done == BatchResult(2, rows_deleted=2, rows_copied=1, files_added=1, files_removed=2)


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (Filter("site", "is null"), [1, 2, 3]),
        (Filter("site", "!=", "a"), [1, 2, 4]),
        (Filter("site", "in", ["a", "b"]), [4]),
        ([Filter("site", "=", "a"), Filter("id", ">", 1)], [1, 3, 4]),
        ([[Filter("site", "=", "b")], [Filter("x", "is null")]], [1, 4]),
        (Filter("id", ">", 9), [1, 2, 3, 4]),
    ],
)
def test_conditions_are_those_of_frames(
    table: BatchWriter, uri: str, where: Filters, left: list[int]
) -> None:
    table.delete(where)

    assert [row[0] for row in read(uri)] == left


def test_files_that_are_outside_are_not_read_and_those_wholly_inside_neither(
    table: BatchWriter, uri: str
) -> None:
    """All files but one are gone from the disk, and nobody notices."""
    for file in snapshot(uri).files:
        Path(uri, store_name(file.path)).rename(Path(uri, "aside" + str(file.partition["site"])))

    assert table.delete(Filter("site", "=", "b")).rows_deleted == 1
    assert table.delete(Filter("id", ">", 100)).version == 2
    assert table.overwrite_partitions([{"id": 9, "site": "a"}]).rows_deleted == 2
    assert table.overwrite([]).rows_deleted == 2
    assert read(uri) == []


def test_untouched_files_stay_and_rewritten_ones_prune(table: BatchWriter, uri: str) -> None:
    before = paths(uri)
    table.delete(Filter("id", "=", 2))

    assert len(before & paths(uri)) == 2, "of three"
    (new,) = [file for file in snapshot(uri).files if file.path not in before]
    assert json.loads(new.stats or "")["maxValues"] == {"id": 1, "x": 1.0}
    Path(uri, store_name(new.path)).unlink()
    assert table.delete(Filter("id", "=", 2)).version == 2, "it is not even opened"


def test_an_overwrite_replaces_the_rows_of_its_condition(table: BatchWriter, uri: str) -> None:
    where = [Filter("site", "=", "a"), Filter("id", ">=", 2)]

    done = table.overwrite([{"id": 7, "site": "a"}, {"id": 8, "site": "a"}], where)

    assert [row[0] for row in read(uri)] == [1, 3, 4, 7, 8]
    assert (done.rows_inserted, done.rows_deleted, done.rows_copied) == (2, 1, 1)


def test_an_overwrite_without_a_condition_replaces_all(table: BatchWriter, uri: str) -> None:
    done = table.overwrite(rows((9, "z", 9.0)))

    assert read(uri) == [(9, "z", 9.0)]
    assert (done.rows_inserted, done.rows_deleted, done.files_removed) == (1, 4, 3)


@pytest.mark.parametrize(
    ("bad", "row"),
    [((5, "b", 1.0), 1), ((5, None, 1.0), 1), ((5, "", 1.0), 1)],
    ids=["other", "null", "empty, which is null"],
)
def test_rows_outside_the_condition_are_refused_by_number(
    table: BatchWriter, uri: str, bad: tuple[Any, ...], row: int
) -> None:
    with pytest.raises(InvalidRows, match="Row 1 is outside where") as caught:
        table.overwrite(rows((6, "a", 1.0), bad), Filter("site", "=", "a"))

    assert (caught.value.row, caught.value.column) == (row, "site")
    assert len(read(uri)) == 4


def test_partitions_are_replaced_by_those_of_the_rows(table: BatchWriter, uri: str) -> None:
    table.overwrite_partitions(rows((7, "a", 7.0), (8, None, 8.0), (9, "new", 9.0)))

    assert read(uri) == [(3, "b", 3.0), (7, "a", 7.0), (8, None, 8.0), (9, "new", 9.0)]


def test_partitions_by_time_are_found_however_they_are_written(tmp_path: Path) -> None:
    """Another engine writes a timestamp without decimal places."""
    uri, at = str(tmp_path / "t"), datetime(2026, 1, 31, 10, tzinfo=UTC)
    schema = pa.schema([("at", pa.timestamp("us", tz="UTC")), ("n", pa.int64())])
    table = BatchWriter(uri, schema=schema, partition_by=["at"])
    table.append([{"at": at, "n": 1}])
    log = Path(uri, "_delta_log", f"{1:020d}.json")
    log.write_text(log.read_text().replace("10:00:00.000000", "10:00:00"))

    table.overwrite_partitions([{"at": at, "n": 2}])

    assert pl.read_delta(uri)["n"].to_list() == [2]


def test_a_merge_updates_in_place_and_adds_the_rest_at_the_end(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    table = BatchWriter(uri, schema=SCHEMA)
    table.append(rows(*[(i, "s", float(i)) for i in range(5)]))

    done = table.merge(rows((9, "n", 9.0), (3, "u", None), (1, "u", 10.0)), on="id")

    found = [row for file in snapshot(uri).files for row in rows_of(uri, file.path)]
    assert found == [
        (0, "s", 0.0),
        (1, "u", 10.0),
        (2, "s", 2.0),
        (3, "u", None),
        (4, "s", 4.0),
        (9, "n", 9.0),
    ]
    assert (done.rows_updated, done.rows_inserted, done.rows_copied) == (2, 1, 3)


def rows_of(uri: str, path: str) -> list[tuple[Any, ...]]:
    return pl.read_parquet(Path(uri, store_name(path)), hive_partitioning=False).rows()


def test_columns_that_the_rows_lack_are_kept_by_updates_and_null_in_new_rows(
    table: BatchWriter, uri: str
) -> None:
    table.merge([{"id": 1, "x": 11.0}, {"id": 9, "x": 99.0}], on=["id"])

    assert read(uri)[0] == (1, "a", 11.0)
    assert read(uri)[-1] == (9, None, 99.0)


def test_an_update_may_take_a_row_to_another_partition(table: BatchWriter, uri: str) -> None:
    done = table.merge(rows((1, "b", 1.5), (3, "b", 3.5)), on="id", when_not_matched="ignore")

    assert read(uri) == [(1, "b", 1.5), (2, "a", None), (3, "b", 3.5), (4, None, 4.0)]
    assert (done.rows_updated, done.rows_inserted, done.rows_copied) == (2, 0, 1)
    ids = [
        row[0]
        for file in snapshot(uri).files
        if file.partition["site"] == "b"
        for row in rows_of(uri, file.path)
    ]
    assert ids == [3, 1], "what comes from elsewhere comes last"


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"when_matched": "delete"}, [2, 3, 4, 9]),
        ({"when_matched": "delete", "when_not_matched": "ignore"}, [2, 3, 4]),
        ({"when_matched": "ignore"}, [1, 2, 3, 4, 9]),
        ({"when_not_matched_by_source": "delete"}, [1, 9]),
        (
            {"when_not_matched_by_source": "delete", "where": Filter("site", "=", "a")},
            [1, 3, 4, 9],
        ),
    ],
    ids=str,
)
def test_each_kind_of_row_has_its_rule(
    table: BatchWriter, uri: str, rules: dict[str, Any], left: list[int]
) -> None:
    table.merge(rows((1, "a", 1.0), (9, "a", 9.0)), on="id", **rules)

    assert [row[0] for row in read(uri)] == left


def test_rows_outside_the_condition_of_a_merge_are_as_if_not_there(
    table: BatchWriter, uri: str
) -> None:
    """Row 3 is in b: a row with the same key is added to a."""
    table.merge(rows((3, "a", 0.0)), on="id", where=Filter("site", "=", "a"))

    assert sorted(read(uri))[2:4] == [(3, "a", 0.0), (3, "b", 3.0)]
    with pytest.raises(InvalidRows, match="Row 0 is outside where"):
        table.merge(rows((3, "b", 0.0)), on="id", where=Filter("site", "=", "a"))
    with pytest.raises(UsageError, match="no column 'site', which where asks for"):
        table.merge([{"id": 3}], on="id", where=Filter("site", "=", "a"))


def test_a_null_in_a_key_is_like_no_other(table: BatchWriter, uri: str) -> None:
    """As in SQL; and two of them are no repeat."""
    keyless = rows((None, "a", 0.0), (None, "a", 0.0))
    table.merge(keyless, on="id")
    table.merge(keyless, on=["id", "site"])

    assert pl.read_delta(uri)["id"].null_count() == 4


def test_keys_may_be_partition_columns_alone(table: BatchWriter, uri: str) -> None:
    table.merge(pa.table({"site": ["a", "b"], "x": [0.5, 0.6]}), on=["site"])

    assert read(uri) == [(1, "a", 0.5), (2, "a", 0.5), (3, "b", 0.6), (4, None, 4.0)]


def test_a_key_that_is_there_twice_is_named(table: BatchWriter) -> None:
    with pytest.raises(InvalidRows, match=r"Rows 0 and 2 .* \(id = 7, site = 'a'\)") as caught:
        table.merge(rows((7, "a", 0.0), (7, "b", 0.0), (7, "a", 1.0)), on=["id", "site"])

    assert (caught.value.first, caught.value.row) == (0, 2)
    assert caught.value.key == {"id": 7, "site": "a"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda table: table.merge(START, on="idd"), "no column 'idd' to merge on. Did you mean"),
        (lambda table: table.merge([{"x": 1.0}], on="id"), "the rows have no such column"),
        (lambda table: table.merge(START, on=[]), r"merge needs on="),
        (lambda table: table.merge(START, on="id", when_matched="replace"), "one of 'update'"),
        (
            lambda table: table.merge(
                START, on="id", when_matched="ignore", when_not_matched="ignore"
            ),
            "does nothing",
        ),
        (lambda table: table.delete(None), r"overwrite\(\[\]\) empties"),
        (lambda table: table.delete([]), "holds for every row"),
        (lambda table: table.delete(Filter("id", "=", "x")), "do not compare"),
        (lambda table: table.overwrite([], where=[]), "holds for every row"),
        (lambda table: table.append([], app_id="job"), "needs both app_id and version"),
        (lambda table: table.append([], app_id="job", version=-1), "from 0 that grows"),
    ],
)  # fmt: skip
def test_calls_that_mean_nothing_are_refused(table: BatchWriter, call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(table)


def test_without_partitions_there_are_none_to_overwrite(tmp_path: Path) -> None:
    table = BatchWriter(str(tmp_path / "t"), schema=SCHEMA)

    with pytest.raises(UsageError, match="has no partitions"):
        table.overwrite_partitions(START)


CALLS: dict[str, Any] = {
    "append": lambda table, **txn: table.append(rows((9, "a", 9.0)), **txn),
    "overwrite": lambda table, **txn: table.overwrite(rows((9, "a", 9.0)), **txn),
    "partitions": lambda table, **txn: table.overwrite_partitions(rows((9, "a", 9.0)), **txn),
    "delete": lambda table, **txn: table.delete(Filter("id", "=", 1), **txn),
    "merge": lambda table, **txn: table.merge(rows((1, "a", 9.0)), on="id", **txn),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_repeated_job_changes_nothing_and_says_so(
    table: BatchWriter, uri: str, name: str
) -> None:
    first = CALLS[name](table, app_id="job", version=5)
    table.append(rows((1, "a", 0.0)))  # What the job would change, were it done again.
    before = read(uri)

    for version in (5, 4):
        other = BatchWriter(uri)
        assert CALLS[name](other, app_id="job", version=version) == BatchResult(3, repeated=True)
    assert (first.version, first.repeated) == (2, False)
    assert read(uri) == before
    assert not CALLS[name](table, app_id="job", version=6).repeated


def test_a_job_that_finds_nothing_to_do_still_counts_as_done(table: BatchWriter) -> None:
    none = Filter("id", "=", 100)

    assert table.delete(none).version == 1
    assert table.merge([], on="id", when_not_matched="ignore").version == 1
    assert table.delete(none, app_id="job", version=1) == BatchResult(2)
    assert table.delete(none, app_id="job", version=1) == BatchResult(2, repeated=True)


def test_the_log_says_what_was_done_as_other_writers_do(table: BatchWriter, uri: str) -> None:
    table.delete(Filter("id", "=", 1))
    table.merge(rows((2, "a", 9.0), (9, "a", 9.0)), on="id")
    table.overwrite(rows((5, "a", 5.0)), Filter("site", "=", "a"))

    overwrite, merge, delete, append = Rival(uri).history(4)
    assert append["operation"] == "WRITE"
    assert append["operationParameters"] == {"mode": "Append", "partitionBy": '["site"]'}
    assert [each["operation"] for each in (delete, merge, overwrite)] == [
        "DELETE",
        "MERGE",
        "WRITE",
    ]
    assert delete["operationParameters"] == {"predicate": '["id = 1"]'}
    assert merge["operationParameters"]["matchedPredicates"] == '[{"actionType":"update"}]'
    assert overwrite["operationParameters"] == {
        "mode": "Overwrite",
        "partitionBy": '["site"]',
        "predicate": "site = 'a'",
    }
    assert delete["operationMetrics"]["numDeletedRows"] == "1"
    assert merge["operationMetrics"]["numTargetRowsUpdated"] == "1"
    assert merge["operationMetrics"]["numTargetRowsInserted"] == "1"
    assert overwrite["operationMetrics"]["numOutputRows"] == "1"
    for version in (2, 3, 4):
        changes = [
            each["dataChange"]
            for line in entry(uri, version)
            for key, each in line.items()
            if key in ("add", "remove")
        ]
        assert changes
        assert all(changes)


def test_an_append_only_table_takes_appends_and_inserts_alone(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    create_table(uri, SCHEMA, properties={"delta.appendOnly": "true"})
    table = BatchWriter(uri)

    table.append(START)
    table.merge(rows((1, "no", 0.0), (5, "e", 5.0)), on="id", when_matched="ignore")
    for name in ("delete", "overwrite", "merge"):
        with pytest.raises(UsageError, match="appendOnly"):
            CALLS[name](table)

    assert [row[0] for row in read(uri)] == [1, 2, 3, 4, 5]
    assert len([*Path(uri).glob("*.parquet")]) == 2, "no orphan is left"


def test_a_change_feed_takes_whole_files_and_refuses_single_rows_by_name(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    create_table(
        uri,
        SCHEMA,
        partition_by=["site"],
        properties={"delta.enableChangeDataFeed": "true"},
    )
    table = BatchWriter(uri)
    table.append(START)

    table.delete(Filter("site", "=", "b"))
    with pytest.raises(UnsupportedFeature, match="change data feed") as caught:
        table.delete(Filter("id", "=", 1))
    with pytest.raises(UnsupportedFeature, match="change data feed"):
        table.merge(rows((1, "a", 0.0)), on="id")

    assert caught.value.features == ["changeDataFeed"]
    assert [row[0] for row in read(uri)] == [1, 2, 4]
    assert len([*Path(uri).rglob("*.parquet")]) == 3, "no orphan is left"


def test_a_table_whose_schema_changed_meanwhile_takes_the_rows_anew(
    table: BatchWriter, uri: str
) -> None:
    """The handle was opened before; a column was added since."""
    wider = pa.table({"id": [9], "site": ["a"], "x": [9.0], "note": ["n"]})
    write_deltalake(uri, wider, mode="append", schema_mode="merge")

    table.merge([{"id": 1, "note": "one"}], on="id", when_not_matched="ignore")

    found = pl.read_delta(uri).sort("id")
    assert found["note"].to_list() == ["one", None, None, None, "n"]


def test_it_works_on_any_store() -> None:
    store = MemoryStore()
    create_table(store, SCHEMA, partition_by=["site"])
    table = BatchWriter(store)
    table.append(START)

    done = table.delete(Filter("x", ">", 2))

    assert done.rows_deleted == 2
    assert snapshot(store).rows == 2
    assert TableLog.open(store).version == done.version


def test_the_catalog_has_a_writer_for_each_delta_table(tmp_path: Path) -> None:
    spikes = DeltaTable("spikes", "spikes", SCHEMA, partition_by=["site"], description="Spikes.")
    files = ParquetTable("files", "files", schema=SCHEMA)
    catalog = Catalog({"neural": [spikes, files]}, Settings(folder=str(tmp_path)))

    writer = catalog.db("neural").batch_writer("spikes")
    assert not Path(catalog.uri_of(spikes)).exists(), "nothing is opened before the first write"
    writer.append(START)
    writer.merge([{"id": 1, "site": "a", "x": 7.0}], on="id")

    frame = catalog.db("neural").table("spikes", Filter("site", "=", "a"))
    assert frame.sort("id").collect()["x"].to_list() == [7.0, None]
    assert repr(writer) == "BatchWriter(neural.spikes)"
    with pytest.raises(SchemaMismatch, match=r"'neural.spikes' has no column 'y'"):
        writer.append([{"y": 1}])
    with pytest.raises(UsageError, match="parquet table; batch writes go to Delta tables"):
        catalog.db("neural").batch_writer("files")
    with pytest.raises(UnknownName, match="Did you mean 'spikes'"):
        catalog.db("neural").batch_writer("spike")


def test_a_table_that_is_not_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no Delta table") as caught:
        BatchWriter(str(tmp_path / "nothing")).delete(Filter("id", "=", 1))

    assert caught.value.kind == "table"
