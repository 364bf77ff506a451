"""Data files of any engine come back as the table's columns, exactly or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta_tables import put_entry
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import DataFile, TableLog, create_table, snapshot
from neuralake.delta.actions import Add
from neuralake.errors import NeedsAttention, SchemaMismatch
from neuralake.storage import MemoryStore

UTC = pa.timestamp("us", tz="UTC")
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=datetime.UTC)
PLAIN = NOON.replace(tzinfo=None)


def read(
    tmp_path: Path, schema: pa.Schema, stored: pa.Table, rows: int | None = None, **options: Any
) -> pa.Table:
    """`stored`, written as another engine would, read as a table of `schema`."""
    uri = str(tmp_path / "table")
    create_table(uri, schema)
    pq.write_table(stored, Path(uri, "f.parquet"), **options)
    size = Path(uri, "f.parquet").stat().st_size
    stats = None if rows is None else f'{{"numRecords":{rows}}}'
    add = Add(
        path="f.parquet",
        partition_values={},
        size=size,
        modification_time=1,
        data_change=True,
        stats=stats,
    )
    put_entry(uri, 1, [add])
    files = snapshot(uri).files
    return pa.concat_tables(TableLog.open(uri).files.read(files[0]))


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind)


@pytest.mark.parametrize(
    ("wanted", "stored", "options"),
    [
        (UTC, array([NOON, None], UTC), {"use_deprecated_int96_timestamps": True}),
        (pa.timestamp("us"), array([PLAIN, None], pa.timestamp("us")),
         {"use_deprecated_int96_timestamps": True}),
        (UTC, array([NOON, None], pa.timestamp("ns", tz="UTC")), {"version": "2.6"}),
        (UTC, array([NOON, None], pa.timestamp("us", tz="Asia/Tokyo")), {}),
        (UTC, array([PLAIN, None], pa.timestamp("us")), {}),
        (UTC, array([NOON.replace(microsecond=5000), None], pa.timestamp("ms", tz="UTC")), {}),
        (pa.string(), array(["a", None], pa.large_string()), {}),
        (pa.string(), array(["a", None], pa.string_view()), {}),
        (pa.string(), array([b"a", None], pa.binary()), {}),
        (pa.string(), array(["a", None], pa.string()).dictionary_encode(), {}),
        (pa.binary(), array([b"ab", None], pa.binary(2)), {}),
        (pa.int64(), array([1, None], pa.int32()), {}),
        (pa.float64(), array([1.5, None], pa.float32()), {}),
        (pa.decimal128(10, 2), array([Decimal("1.25"), None], pa.decimal128(5, 2)), {}),
        (pa.decimal128(9, 2), array([Decimal("1.25"), None], pa.decimal128(9, 2)),
         {"store_decimal_as_integer": True}),
        (pa.list_(pa.int32()), array([[1, None], None, []], pa.large_list(pa.int32())), {}),
        (pa.list_(pa.int32()), array([[1, None], None], pa.list_(pa.int32())),
         {"use_compliant_nested_type": False}),
        (pa.int64(), array([1, None], pa.int64()), {"data_page_version": "2.0"}),
        (pa.int64(), array([1, None], pa.int64()), {"compression": "gzip"}),
    ],
)  # fmt: skip
def test_physical_variants_become_the_tables_type(
    tmp_path: Path, wanted: pa.DataType, stored: pa.Array, options: dict[str, Any]
) -> None:
    found = read(tmp_path, pa.schema([("x", wanted)]), pa.table({"x": stored}), **options)

    if pa.types.is_timestamp(wanted):
        # The same instants; without a zone it is UTC by custom.
        stored = stored.cast(pa.timestamp(stored.type.unit, wanted.tz)).cast(wanted)
    values = stored.cast(wanted) if pa.types.is_string(wanted) else stored
    assert found["x"].to_pylist() == values.to_pylist()


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        (pa.int32(), array([1, 2**40], pa.int64())),
        (pa.float32(), array([0.1], pa.float64())),
        (pa.string(), array([1], pa.int64())),
        (UTC, array([1_001], pa.timestamp("ns", tz="UTC"))),
        (pa.decimal128(4, 1), array([Decimal("1.25")], pa.decimal128(5, 2))),
    ],
)
def test_a_value_that_the_table_cannot_hold_is_never_rounded(
    tmp_path: Path, wanted: pa.DataType, stored: pa.Array
) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        read(tmp_path, pa.schema([("x", wanted)]), pa.table({"x": stored}), version="2.6")
    assert caught.value.column == "x"


INNER = pa.struct([("u", pa.int32()), ("v", pa.string())])


def test_columns_are_found_by_name_missing_ones_are_null_and_extra_ones_left_out(
    tmp_path: Path,
) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("s", INNER), ("gone", pa.int8())])
    other = pa.struct([("extra", pa.int8()), ("U", pa.int32())])
    stored = pa.table(
        {
            "_change_type": ["insert", "insert"],
            "s": pa.array([{"extra": 1, "U": 2}, None], other),
            "B": ["x", "y"],
            "a": [1, 2],
        }
    )

    assert read(tmp_path, schema, stored).to_pylist() == [
        {"a": 1, "b": "x", "s": {"u": 2, "v": None}, "gone": None},
        {"a": 2, "b": "y", "s": None, "gone": None},
    ]


def test_a_file_with_none_of_the_columns_has_its_rows_all_the_same(tmp_path: Path) -> None:
    found = read(tmp_path, pa.schema([("a", pa.int64())]), pa.table({"z": [1, 2, 3]}))

    assert found["a"].to_pylist() == [None, None, None]


def test_a_missing_column_that_must_have_values_is_an_error(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.int64())])

    with pytest.raises(SchemaMismatch) as caught:
        read(tmp_path, schema, pa.table({"b": [1]}))
    assert caught.value.column == "a"


@pytest.mark.parametrize(
    ("kind", "same", "other"),
    [
        (pa.date32(), datetime.date(1582, 10, 15), datetime.date(1582, 10, 14)),
        (UTC, NOON.replace(year=1900), NOON.replace(year=1899)),
        (pa.timestamp("us"), PLAIN.replace(year=1900), PLAIN.replace(year=1899)),
    ],
)
def test_days_of_sparks_old_calendar_are_never_taken_for_other_days(
    tmp_path: Path, kind: pa.DataType, same: object, other: object
) -> None:
    deep = pa.list_(pa.struct([("at", kind)]))
    schema = pa.schema([("deep", deep), ("at", kind)])
    fine, old = ([{"deep": [None, {"at": at}], "at": None}] for at in (same, other))
    for number, keys in enumerate(
        [
            {"org.apache.spark.version": "2.4.8"},
            {"org.apache.spark.version": "4.2.0", "org.apache.spark.legacyDateTime": ""},
            {"org.apache.spark.version": "4.2.0", "org.apache.spark.legacyINT96": ""},
        ]
    ):
        described = schema.with_metadata(keys)
        stored = pa.Table.from_pylist(fine, described)
        assert read(tmp_path / f"fine{number}", schema, stored).to_pylist() == fine
        with pytest.raises(NeedsAttention, match="Rewrite them with Spark") as caught:
            read(tmp_path / f"old{number}", schema, pa.Table.from_pylist(old, described))
        assert caught.value.column == "deep"
    new = pa.Table.from_pylist(old, schema.with_metadata({"org.apache.spark.version": "4.2.0"}))
    assert read(tmp_path / "new", schema, new).to_pylist() == old


def test_a_file_with_other_rows_than_the_log_says_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NeedsAttention, match="has 2 rows, but the log says 3"):
        read(tmp_path, pa.schema([("a", pa.int64())]), pa.table({"a": [1, 2]}), rows=3)


def test_what_is_missing_or_no_parquet_file_needs_a_person() -> None:
    store = MemoryStore()
    create_table(store, pa.schema([("a", pa.int64())]))
    log = TableLog.open(store)
    file = DataFile("f.parquet", {}, 4, None, 1.0)

    with pytest.raises(NeedsAttention) as caught:
        list(log.files.read(file))
    assert caught.value.missing is True
    for data in (b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1"):
        store.put({"f.parquet": data})
        with pytest.raises(NeedsAttention, match="cannot be read as Parquet"):
            list(log.files.read(file))


@settings(max_examples=examples(25), deadline=None)
@given(
    groups=st.lists(st.integers(0, 70_000), min_size=1, max_size=4),
    width=st.sampled_from([1, 500]),
)
def test_batches_are_small_and_in_the_order_of_the_file(groups: list[int], width: int) -> None:
    store = MemoryStore()
    schema = pa.schema([("id", pa.int64()), ("x", pa.string())])
    create_table(store, schema)
    log = TableLog.open(store)
    starts = [sum(groups[:i]) for i in range(len(groups))]
    # Distinct texts, so that their size is that of the file.
    batches = [
        pa.table({"id": range(i, i + n), "x": [f"{j:0{width}}" for j in range(i, i + n)]}, schema)
        for i, n in zip(starts, groups, strict=True)
    ]
    written = log.files.write_one({}, batches)
    file = DataFile(written.path, {}, written.content.bytes, written.content.rows, 1.0)
    found = list(log.files.read(file))

    assert pa.concat_tables([schema.empty_table(), *found]).equals(pa.concat_tables(batches))
    assert all(batch.nbytes < 64 * 2**20 and batch.num_rows <= 65_536 for batch in found)
    columns = list(log.files.read(file, columns=["id"]))
    assert [i for batch in columns for i in batch["id"].to_pylist()] == [*range(sum(groups))]
