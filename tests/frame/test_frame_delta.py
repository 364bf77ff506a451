"""A Delta table is read lazily, exactly as declared, and no more of it than needed."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from delta_tables import delete_rows, inline_vector, stored_vector
from deltalake import DeltaTable, write_deltalake

from neuralake.delta import TableLog, create_table, snapshot
from neuralake.errors import SchemaMismatch, UnknownName, UnsupportedFeature, UsageError
from neuralake.filters import Filter
from neuralake.frame import NlkDataFrame, scan_delta, scan_snapshot

SCHEMA = pa.schema([("site", pa.string()), ("n", pa.int32()), ("x", pa.float64())])


def more(uri: str, *, site: str = "a", n: int = 99) -> None:
    rows = pa.table([[site], [n], [0.5]], schema=SCHEMA)
    write_deltalake(uri, rows, mode="append")


def test_what_comes_out_is_what_polars_reads(readings: str) -> None:
    frame = scan_delta(readings, SCHEMA, ["site"])

    assert type(frame) is NlkDataFrame
    assert frame.collect_schema() == pl.Schema(SCHEMA)
    assert frame.collect().sort("n").equals(pl.scan_delta(readings).collect().sort("n"))


def test_the_declared_columns_come_out_in_the_declared_order(readings: str) -> None:
    declared = pa.schema([SCHEMA.field("x"), SCHEMA.field("site")])

    rows = scan_delta(readings, declared).collect()

    assert rows.schema == pl.Schema({"x": pl.Float64, "site": pl.String})
    assert sorted(rows["x"]) == [n / 2 for n in range(20)]


def test_filters_and_columns_reach_the_files(readings: str) -> None:
    given = [Filter("site", "=", "a"), Filter("n", ">", 5)]

    plan = scan_delta(readings, SCHEMA, ["site"], given).select("x").explain()
    later = scan_delta(readings, SCHEMA).filter(pl.col("site") == "a", n=7).select("x")

    assert "site=a" in plan
    assert "site=b" not in plan
    selection = plan.partition("SELECTION: ")[2]
    assert 'col("site") == "a"' in selection
    assert 'col("n") > 5' in selection
    assert "other source" not in later.explain()
    assert later.collect()["x"].to_list() == [3.5]


def test_files_whose_statistics_rule_them_out_are_not_read(tmp_path: Path) -> None:
    """The file that holds other values is gone, and nobody notices."""
    uri = str(tmp_path / "t")
    for n in (1, 100):
        more(uri, n=n)
    gone = next(
        row["path"]
        for row in pa.table(DeltaTable(uri).get_add_actions(flatten=True)).to_pylist()
        if row["min.n"] == 100
    )
    Path(uri, gone).unlink()

    assert scan_delta(uri, SCHEMA, (), Filter("n", "<", 50)).collect()["n"].to_list() == [1]


def test_every_collect_sees_what_was_committed_before_it(readings: str) -> None:
    frame = scan_delta(readings, SCHEMA).select(pl.len())

    before = frame.collect().item()
    more(readings)

    assert (before, frame.collect().item()) == (20, 21)


def test_a_version_stays_what_it_was(readings: str) -> None:
    more(readings)

    assert scan_delta(readings, SCHEMA, version=0).collect().height == 20
    assert scan_snapshot(snapshot(readings, 0), SCHEMA).collect().height == 20
    with pytest.raises(UnknownName, match=r"no version 7 of .*: the newest is 1") as caught:
        scan_delta(readings, SCHEMA, version=7).collect()
    assert (caught.value.kind, caught.value.newest) == ("version", 1)


def test_a_frame_joined_with_itself_and_streamed_is_right(readings: str) -> None:
    frame = scan_delta(readings, SCHEMA)

    pairs = frame.join(frame, on="n").select(pl.len())

    assert pairs.collect(engine="streaming").item() == 20
    assert pl.collect_all([frame, frame.head(3)])[1].height == 3


def test_a_frame_travels_between_processes(readings: str) -> None:
    frame = scan_delta(readings, SCHEMA, ["site"], Filter("site", "=", "b"))

    there = pickle.loads(pickle.dumps(frame))  # noqa: S301 our own bytes

    assert type(there) is NlkDataFrame
    assert there.collect().height == 10


def test_a_table_nobody_created_is_empty_only_for_a_stream(tmp_path: Path) -> None:
    uri = str(tmp_path / "spikes")
    stream = scan_delta(uri, SCHEMA, ["site"], Filter("n", ">", 1), empty_if_missing=True)

    assert stream.collect().schema == pl.Schema(SCHEMA)
    assert stream.collect().height == 0
    assert stream.group_by("site").agg(pl.col("n").sum()).collect().height == 0
    with pytest.raises(UnknownName, match=r"'lab.spikes'.*no Delta table at .*spikes") as caught:
        scan_delta(uri, SCHEMA, name="lab.spikes").collect()
    assert caught.value.kind == "table"

    more(uri)
    assert stream.collect().height == 1


def test_a_created_table_without_rows_is_empty(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    DeltaTable.create(uri, SCHEMA, partition_by=["site"])

    assert scan_delta(uri, SCHEMA, ["site"]).collect().schema == pl.Schema(SCHEMA)


@pytest.mark.parametrize(
    ("declared", "column"),
    [
        (SCHEMA.append(pa.field("volt", pa.float32())), "volt"),
        (SCHEMA.set(1, pa.field("n", pa.int64())), "n"),
        (SCHEMA.set(0, pa.field("site", pa.int32())), "site"),
    ],
    ids=["missing", "other width", "other type"],
)
def test_schema_drift_is_an_error_that_names_the_column(
    readings: str, declared: pa.Schema, column: str
) -> None:
    frame = scan_delta(readings, declared, name="lab.readings").select("x")

    with pytest.raises(SchemaMismatch, match=f"'lab.readings' .*'{column}'") as caught:
        frame.collect()

    assert caught.value.column == column
    assert caught.value.declared


def test_a_column_that_was_added_to_the_table_does_not_break_its_readers(readings: str) -> None:
    wider = pa.table({"site": ["a"], "n": pa.array([1], pa.int32()), "x": [0.0], "new": [1]})
    write_deltalake(readings, wider, mode="append", schema_mode="merge")

    assert scan_delta(readings, SCHEMA).collect().shape == (21, 3)


def test_a_filter_that_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    uri = str(tmp_path / "nothing")

    with pytest.raises(UnknownName, match="no column 'sit'"):
        scan_delta(uri, SCHEMA, (), Filter("sit", "=", "a"))
    with pytest.raises(UsageError, match="do not compare"):
        scan_delta(uri, SCHEMA, (), Filter("n", "=", "a"))


@pytest.mark.parametrize("feature", ["typeWidening", "tomorrow's"])
def test_a_feature_that_we_do_not_read_is_refused_by_name(readings: str, feature: str) -> None:
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": [feature],
        "writerFeatures": [feature],
    }
    entry = Path(readings, "_delta_log", f"{1:020}.json")
    entry.write_text(json.dumps({"protocol": protocol}))

    with pytest.raises(UnsupportedFeature, match=feature) as caught:
        scan_delta(readings, SCHEMA).collect()

    assert caught.value.features == [feature]


def test_a_deleted_table_is_an_error_and_not_old_rows(readings: str) -> None:
    frame = scan_delta(readings, SCHEMA)
    assert frame.collect().height == 20

    shutil.rmtree(readings)

    with pytest.raises(UnknownName):
        frame.collect()
    more(readings)  # A new table, again at version 0.
    assert frame.collect().height == 1


@pytest.mark.parametrize("folder", ["my data", "ü", "a#b", "a?b", "100%", "[1]*", "a+b&c'd"])
def test_a_lake_may_lie_in_any_folder(tmp_path: Path, folder: str) -> None:
    """delta-rs and Polars alone do not find the files of a table below `my data`."""
    uri = str(tmp_path / folder / "t")
    create_table(uri, SCHEMA, partition_by=["site"])
    rows = pa.table([["a b/ü", "c"], [1, 2], [0.5, 1.5]], schema=SCHEMA)
    TableLog.open(uri).append(rows)

    assert scan_delta(uri, SCHEMA).collect().sort("n").equals(pl.DataFrame(rows))
    one = scan_delta(uri, SCHEMA, ["site"], [Filter("site", "=", "a b/ü"), Filter("n", "<", 9)])
    assert one.collect()["n"].to_list() == [1]


def partitioned(uri: str) -> None:
    """Sites `a` and `b`, each with rows 0 to 3 in a file of its own."""
    create_table(uri, SCHEMA, partition_by=["site"])
    rows = [(site, n, n / 2) for site in "ab" for n in range(4)]
    TableLog.open(uri).append(pa.table([*zip(*rows, strict=True)], schema=SCHEMA))


def test_a_folder_that_looks_like_a_partition_is_none(tmp_path: Path) -> None:
    """Polars would take `site` from the lake's own folder."""
    uri = str(tmp_path / "site=x" / "t")
    partitioned(uri)

    rows = scan_delta(uri, SCHEMA).filter(pl.col("n") > 1, site="b").collect()

    assert rows.rows() == [("b", 2, 1.0), ("b", 3, 1.5)]


def test_partition_values_are_those_of_the_log_whatever_folders_are_called(tmp_path: Path) -> None:
    """The protocol leaves the names of folders to the writer."""
    uri = str(tmp_path)
    partitioned(uri)
    entry = Path(uri, "_delta_log", f"{1:020}.json")
    entry.write_text(entry.read_text().replace("site=a/", "x7/").replace("site=b/", "site=a/"))
    Path(uri, "site=a").rename(Path(uri, "x7"))
    Path(uri, "site=b").rename(Path(uri, "site=a"))

    frame = scan_delta(uri, SCHEMA)

    assert frame.group_by("site").len().sort("site").collect().rows() == [("a", 4), ("b", 4)]
    assert frame.filter(site="b").select("site", "n").collect().rows() == [
        ("b", n) for n in range(4)
    ]
    assert frame.select(pl.len()).collect().item() == 8
    assert frame.select("site").head(5).collect().height == 5


@pytest.mark.parametrize("folder", ["t", "my data"])
@pytest.mark.parametrize("stored", [True, False], ids=["vectors in files", "vectors in the log"])
def test_deleted_rows_never_come_back(tmp_path: Path, folder: str, stored: bool) -> None:
    uri = str(tmp_path / folder)
    create_table(
        uri, SCHEMA, partition_by=["site"], properties={"delta.enableDeletionVectors": "true"}
    )
    rows = [(site, n, n / 2) for site in "ab" for n in range(4)]
    TableLog.open(uri).append(pa.table([*zip(*rows, strict=True)], schema=SCHEMA))
    file = snapshot(uri).files[0]
    delete_rows(uri, file, stored_vector(uri, [0, 2]) if stored else inline_vector([0, 2]))

    frame = scan_delta(uri, SCHEMA)
    site = file.partition["site"]

    assert sorted(frame.filter(site=site).collect()["n"]) == [1, 3]
    assert frame.select(pl.len()).collect().item() == 6
    assert frame.filter(pl.col("n") == 2).collect().height == 1


@pytest.mark.parametrize("mode", ["name", "id"])
def test_mapped_columns_come_by_the_names_that_people_know(tmp_path: Path, mode: str) -> None:
    uri = str(tmp_path)
    create_table(uri, SCHEMA, partition_by=["site"], properties={"delta.columnMapping.mode": mode})
    rows = pa.table([["a", "b", None], [1, 2, 3], [0.5, None, 1.5]], schema=SCHEMA)
    TableLog.open(uri).append(rows)

    frame = scan_delta(uri, SCHEMA)

    assert frame.collect().sort("n").equals(pl.DataFrame(rows))
    assert frame.filter(pl.col("site") == "b").select("n").collect().rows() == [(2,)]
    assert frame.filter(pl.col("x") > 1).select("site").collect().rows() == [(None,)]
    assert frame.select(pl.len()).collect().item() == 3
    assert frame.head(2).collect().height == 2
    assert frame.filter(pl.col("n") > 1).head(1).collect().height == 1


def test_a_filter_on_floats_keeps_nan_whatever_the_statistics_say(tmp_path: Path) -> None:
    """To Polars NaN is greater than every number; other engines leave it out of their bounds."""
    uri = str(tmp_path / "t")
    write_deltalake(uri, pa.table({"x": [1.0, float("nan")]}))
    entry = Path(uri, "_delta_log", f"{0:020}.json")
    text = entry.read_text()
    bounds = text.partition("maxValues")[2].partition("}")[0]
    entry.write_text(text.replace(f"maxValues{bounds}", "maxValues" + r"\":{\"x\":1.0"))
    assert (
        snapshot(uri).files[0].stats
        == '{"numRecords":2,"minValues":{"x":1.0},"maxValues":{"x":1.0},"nullCount":{"x":0}}'
    )

    frame = scan_delta(uri, pa.schema([("x", pa.float64())]))

    assert frame.filter(pl.col("x") > 5).collect().height == 1


PARTITION_VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (
        pa.string(),
        ["a b", "x/y", "ü=1", "%41", "a'b\"", "#?&", "{}", " lead", "__HIVE_DEFAULT", None],
    ),
    "integer": (pa.int64(), [-1, 2**62, None]),
    "bool": (pa.bool_(), [True, False, None]),
    "date": (pa.date32(), [date(1969, 1, 1), date(2024, 2, 29), None]),
    "instant": (
        pa.timestamp("us", tz="UTC"),
        [
            datetime(2024, 1, 1, 1, 2, 3, 456789, tzinfo=UTC),
            datetime(1960, 1, 1, tzinfo=UTC),
            None,
        ],
    ),
}


@pytest.mark.parametrize("kind", PARTITION_VALUES)
def test_every_partition_value_comes_back_and_can_be_filtered_by(tmp_path: Path, kind: str) -> None:
    arrow, values = PARTITION_VALUES[kind]
    schema = pa.schema([("p", arrow), ("n", pa.int32())])
    uri = str(tmp_path / "t")
    create_table(uri, schema, partition_by=["p"])
    TableLog.open(uri).append(pa.table([values, list(range(len(values)))], schema=schema))

    assert scan_delta(uri, schema).collect().sort("n")["p"].to_list() == values
    for n, value in enumerate(values):
        condition = Filter("p", "is null") if value is None else Filter("p", "=", value)
        found = scan_delta(uri, schema, ["p"], condition).collect()
        assert found["n"].to_list() == [n]


def test_a_collect_beside_a_writer_sees_whole_commits(tmp_path: Path) -> None:
    """Threads collect one frame while commits of ten rows arrive; none sees a part of one."""
    uri = str(tmp_path / "t")
    create_table(uri, SCHEMA, partition_by=["site"])
    log = TableLog.open(uri)
    rows = pa.table([["a", "b"] * 5, [1] * 10, [1.0] * 10], schema=SCHEMA)
    frame = scan_delta(uri, SCHEMA).select(pl.len())

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(lambda: [log.append(rows) for _ in range(40)])
        heights: list[Future[list[int]]] = [
            pool.submit(lambda: [frame.collect().item() for _ in range(20)]) for _ in range(2)
        ]
        writing.result()
        seen = [future.result() for future in heights]

    assert frame.collect().item() == 400
    assert all(height % 10 == 0 for heights_seen in seen for height in heights_seen)
    assert all(heights_seen == sorted(heights_seen) for heights_seen in seen)
