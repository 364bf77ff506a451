"""A catalog becomes data: what definitions say, what logs say, and why a table has no facts."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from site_lake import HOSTILE, NOW_S, OLD, fill, make_catalog

from neuralake.catalog import Catalog, Database
from neuralake.clock import ManualClock
from neuralake.delta import TableLog, compact_once, create_table
from neuralake.manifest import Manifest, Statistics, Table, describe, to_json
from neuralake.settings import LakeSettings, ServerSettings, Settings
from neuralake.tables import DeltaTable, ParquetTable, Partition, PartitioningScheme, table


def find(manifest: Manifest, name: str) -> Table:
    return next(table for table in manifest.tables() if table.name == name)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("lake")
    fill(folder)
    return describe(make_catalog(folder, hostile=True), clock=ManualClock(NOW_S + 600))


def test_the_manifest_says_when_and_from_what_it_was_made(manifest: Manifest) -> None:
    assert manifest.made_s == NOW_S + 600
    assert manifest.catalog == "lake:catalog"
    assert manifest.base_url == "http://127.0.0.1:8765"
    assert [database.name for database in manifest.databases] == ["neural", "lab", "hostile"]


def test_a_table_carries_all_its_docs(manifest: Manifest) -> None:
    table = find(manifest, "spikes")

    assert (table.database, table.kind, table.uri) == ("neural", "delta", "neural/spikes")
    assert table.description.startswith("Spike counts per channel.")
    assert (table.owner, table.tags) == ("Decoding team", ("neural", "realtime"))
    assert (table.data_input, table.latency_info) == ("the implant's radio", "200 ms")
    assert table.example_notebook == "https://example.org/spikes.ipynb"
    assert table.partition_by == ("session",)
    assert table.stream is not None
    assert (table.stream.path, table.stream.flush_ms_max) == ("/v1/neural/spikes", 200)


def test_columns_say_type_nullability_and_role(manifest: Manifest) -> None:
    session, time, channel, count = find(manifest, "spikes").columns

    assert (session.type, session.nullable) == ("string", False)
    assert session.is_partition
    assert session.is_unique
    assert time.type == "timestamp (UTC)"
    assert channel.doc == "Electrode number, 0 to 255."
    assert count.nullable
    assert not count.is_unique


def test_facts_come_from_the_log(manifest: Manifest) -> None:
    log = find(manifest, "spikes").log

    assert log is not None
    assert (log.rows, log.files, log.version, log.partitions) == (12, 2, 2, 2)
    assert log.bytes > 0
    assert log.modified_s == NOW_S + 120
    # The latest first.
    assert [(p.values, p.rows) for p in log.partitions_latest] == [(("it's 12",), 7), (("s-1",), 5)]


def test_statistics_are_those_of_all_files_together(manifest: Manifest) -> None:
    columns = {column.name: column.statistics for column in find(manifest, "spikes").columns}

    assert columns["session"] == Statistics(nulls=0)
    channel, count, time = columns["channel"], columns["count"], columns["time"]
    assert channel is not None
    assert (channel.smallest, channel.largest, channel.nulls) == ("0", "6", 0)
    assert count is not None
    assert (count.smallest, count.largest, count.nulls) == ("1", "6", 2)
    assert time is not None
    assert time.largest == "2026-01-02 03:04:05.678"


def test_a_stream_that_nobody_wrote_to_yet_is_empty_and_no_problem(manifest: Manifest) -> None:
    table = find(manifest, "waiting")

    assert table.problem is None
    assert table.log is not None
    assert (table.log.rows, table.log.version) == (0, None)


def test_a_missing_table_has_a_reason_without_a_path_of_this_machine(manifest: Manifest) -> None:
    table = find(manifest, "missing")

    assert table.log is None
    assert table.problem == "There is no Delta table at neural/missing."
    assert [column.name for column in table.columns] == ["t"]


def test_a_function_is_described_from_its_signature_and_never_called(manifest: Manifest) -> None:
    table, uncalled = find(manifest, "insertions"), find(manifest, "never_called")

    session, limit = table.parameters
    assert (session.name, session.type, session.default, session.example) == (
        "session",
        "str",
        None,
        '"s-1"',
    )
    assert (limit.name, limit.default, limit.example) == ("limit", "3", None)
    assert (table.log, table.problem, table.uri) == (None, None, None)
    assert uncalled.problem is None


def test_parquet_facts_come_from_listing_and_footers(manifest: Manifest) -> None:
    table = find(manifest, "weather")

    assert table.problem is None
    assert table.log is not None
    assert (table.log.rows, table.log.files, table.log.version) == (5, 2, None)
    assert {(p.values, p.rows) for p in table.log.partitions_latest} == {
        (("JFK",), 2),
        (("new york",), 3),
    }
    assert [(column.name, column.type) for column in table.columns] == [
        ("temp", "float64"),
        ("origin", "string"),
    ]
    assert table.columns[1].is_partition


def test_partition_values_of_plain_folders_are_read_by_level(tmp_path: Path) -> None:
    part = tmp_path / "data" / "raw" / "d1" / "2026-01-01"
    part.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1, 2]}), part / "a.parquet")
    table = ParquetTable(
        name="raw",
        uri="raw",
        schema=pa.schema([("x", pa.int64())]),
        partitioning=[Partition("device", pa.string()), Partition("day", pa.date32())],
        partitioning_scheme=PartitioningScheme.DIRECTORY,
    )

    found = describe_one(tmp_path, table)

    assert found.log is not None
    assert found.log.partitions_latest[0].values == ("d1", "2026-01-01")
    assert [condition.sql for condition in found.conditions] == [
        "device = 'd1'",
        "day = '2026-01-01'",
    ]


def test_a_glob_that_matches_nothing_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.int64())])
    (tmp_path / "data" / "raw").mkdir(parents=True)

    empty = describe_one(tmp_path, ParquetTable(name="a", uri="raw/*.parquet", schema=schema))
    absent = describe_one(tmp_path, ParquetTable(name="a", uri="nowhere", schema=schema))

    assert empty.log is not None
    assert (empty.log.files, empty.log.rows) == (0, 0)
    assert absent.log is None
    assert absent.problem is not None
    assert str(tmp_path) not in absent.problem


def test_deprecated_tables_are_listed_last_and_marked(manifest: Manifest) -> None:
    neural = manifest.databases[0]

    assert neural.tables[-1].name == OLD.name
    assert neural.tables[-1].deprecated == "Use `spikes`."


def test_one_broken_table_leaves_the_others_described(tmp_path: Path) -> None:
    fill(tmp_path)
    log = tmp_path / "data" / "neural" / "old_spikes" / "_delta_log"
    next(log.glob("*.json")).write_bytes(b"\xff not json")

    manifest = describe(make_catalog(tmp_path))

    assert find(manifest, "old_spikes").problem
    assert str(tmp_path) not in str(find(manifest, "old_spikes").problem)
    assert find(manifest, "spikes").problem is None


def test_a_declared_column_that_the_table_has_not_is_the_reason(tmp_path: Path) -> None:
    create_table(str(tmp_path / "data" / "t"), pa.schema([("a", pa.int32())]))
    schema = pa.schema([("a", pa.int32()), ("b", pa.string())])

    lacking = describe_one(tmp_path, DeltaTable(name="t", uri="t", schema=schema))
    drifted = describe_one(
        tmp_path, DeltaTable(name="t", uri="t", schema=pa.schema([("a", pa.int64())]))
    )

    assert "no column 'b'" in str(lacking.problem)
    assert "is int32, but its definition declares int64" in str(drifted.problem)
    assert drifted.log is not None, "what the log says is shown all the same"


def test_examples_filter_by_the_docs_else_by_the_latest_partition(manifest: Manifest) -> None:
    documented, latest = find(manifest, "spikes"), find(manifest, "everything")

    assert [condition.sql for condition in documented.conditions] == [
        "session = 'it''s 12'",
        "channel IN (1, 2)",
    ]
    assert [(c.column, c.python, c.sql) for c in latest.conditions] == [
        ("day", '"2026-05-01"', "day = '2026-05-01'")
    ]
    assert find(manifest, "missing").conditions == ()


def test_a_null_partition_is_asked_for_as_null(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int32()), ("p", pa.string())])
    create_table(str(tmp_path / "data" / "t"), schema, partition_by=["p"])
    TableLog.open(str(tmp_path / "data" / "t")).append(
        pa.table({"a": [1], "p": [None]}, schema=schema)
    )

    found = describe_one(tmp_path, DeltaTable(name="t", uri="t", schema=schema, partition_by=["p"]))

    assert [condition.sql for condition in found.conditions] == ["p IS NULL"]
    assert found.columns[1].statistics == Statistics(nulls=1)


def test_the_example_row_has_the_documented_values(manifest: Manifest) -> None:
    row = find(manifest, "spikes").example_row

    assert row is not None
    assert row["session"] == "it's 12"
    assert set(row) == {"session", "time", "channel", "count"}
    assert find(manifest, "missing").example_row is None


def test_keys_in_a_store_url_are_not_shown(manifest: Manifest) -> None:
    table = find(manifest, "attack")

    assert table.uri is not None
    assert table.uri.startswith("s3://bucket/")
    assert "secret" not in table.uri
    assert "secret" not in str(table.problem)
    assert table.owner == HOSTILE


def test_the_base_url_is_the_settings_or_the_callers(tmp_path: Path) -> None:
    def base(host: str, port: int) -> str:
        settings = Settings(folder=str(tmp_path), server=ServerSettings(host=host, port=port))
        return describe(Catalog({}, settings)).base_url

    assert base("::1", 99) == "http://[::1]:99"
    assert base("127.0.0.1", 0) == "http://127.0.0.1:8765"
    given = describe(Catalog({}, Settings()), base_url="https://lake.example/")
    assert given.base_url == "https://lake.example"


def describe_one(folder: Path, definition: DeltaTable | ParquetTable) -> Table:
    settings = Settings(folder=str(folder), lake=LakeSettings(root="data"))
    manifest = describe(Catalog({"db": Database([definition])}, settings))
    return manifest.tables()[0]


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int32())])
    broken = DeltaTable(name="t", uri="t", schema=schema, owner="\ud800!", tags=["\udfff"])

    found = describe_one(tmp_path, broken)

    assert (found.owner, found.tags) == ("?!", ("?",))
    assert to_json(Manifest(databases=()))


def test_a_definition_that_cannot_even_be_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    class Unprintable:
        is_broken = False

        def __repr__(self) -> str:
            if self.is_broken:
                raise RuntimeError("no text for this default")
            return "Unprintable()"

    @table
    def strange(what: object = Unprintable()) -> pl.LazyFrame:
        """Strange."""
        return pl.LazyFrame({"x": [what]})

    Unprintable.is_broken = True
    settings = Settings(folder=str(tmp_path))
    found = describe(Catalog({"db": Database([strange])}, settings)).tables()[0]

    assert (found.name, found.description) == ("strange", "Strange.")
    assert found.problem == "no text for this default"


def test_compaction_changes_files_and_version_but_not_when_rows_changed(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int32())])
    uri, clock = str(tmp_path / "data" / "t"), ManualClock(NOW_S)
    create_table(uri, schema, clock=clock)
    log = TableLog.open(uri, clock=clock)
    for value in range(5):
        clock.advance(10)
        log.append(pa.table({"a": [value]}, schema=schema))
    definition = DeltaTable(name="t", uri="t", schema=schema)
    before = describe_one(tmp_path, definition).log

    clock.advance(3600)
    compact_once(uri, target_bytes=2**20, files_min=2, clock=clock)
    after = describe_one(tmp_path, definition).log

    assert before is not None
    assert after is not None
    assert (before.files, after.files) == (5, 1)
    assert after.version == (before.version or 0) + 1
    assert (after.rows, after.modified_s) == (5, NOW_S + 50) == (before.rows, before.modified_s)


def test_partition_columns_have_the_range_of_their_partitions(manifest: Manifest) -> None:
    day = find(manifest, "everything").columns[0]

    assert day.statistics == Statistics(smallest="2026-05-01", largest="2026-05-01", nulls=0)


def test_limits_of_a_stream_that_it_does_not_set_are_the_lakes(manifest: Manifest) -> None:
    stream = find(manifest, "spikes").stream

    assert stream is not None
    assert (stream.flush_ms_max, stream.flush_rows_max) == (200, 500_000)
    assert stream.flush_bytes_max == 64 * 1024 * 1024
