"""Row groups copied into one file are the same rows to every reader; what is unsure is refused."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import operator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta.parquet import Encoder
from neuralake.delta.row_groups import Footer, Joiner, read_footer
from neuralake.delta.statistics import combine
from neuralake.delta.thrift import decode, encode

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("value", pa.float64()),
        ("day", pa.date32()),
        ("inner", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])),
    ]
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**63), 2**63 - 1),
        "name": st.none() | st.text(max_size=50),
        "time": st.none()
        | st.integers(-(10**14), 10**14).map(
            lambda us: _EPOCH + datetime.timedelta(microseconds=us)
        ),
        "value": st.none() | st.floats(),
        "day": st.none() | st.dates(),
        "inner": st.none()
        | st.fixed_dictionaries(
            {"a": st.none() | st.integers(0, 9), "b": st.none() | st.lists(st.text(max_size=3))}
        ),
    }
)


def parquet(rows: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


def footer(data: bytes) -> Footer:
    found = read_footer(io.BytesIO(data))
    assert found is not None
    return found


def joined(*files: bytes) -> bytes:
    sink = io.BytesIO()
    joiner = Joiner(sink)
    for data in files:
        joiner.add(footer(data), io.BytesIO(data))
    joiner.close()
    assert joiner.size_bytes == len(sink.getvalue())
    return sink.getvalue()


@settings(deadline=None, max_examples=examples(25))
@given(parts=st.lists(st.lists(ROW, max_size=20), min_size=1, max_size=5), size=st.integers(1, 25))
def test_every_reader_sees_the_same_rows_in_the_same_order(
    parts: list[list[dict[str, object]]], size: int
) -> None:
    tables = [pa.Table.from_pylist(rows, SCHEMA) for rows in parts]
    data = joined(*(parquet(table, row_group_size=size) for table in tables))

    whole = pa.concat_tables(tables)
    assert str(pq.read_table(io.BytesIO(data)).to_pylist()) == str(whole.to_pylist())
    assert pl.read_parquet(data).equals(pl.DataFrame(whole), null_equal=True)
    assert pq.ParquetFile(io.BytesIO(data)).metadata.num_rows == len(whole)


def test_readers_skip_the_right_row_groups_of_a_joined_file(tmp_path: Path) -> None:
    tables = [
        pa.table({"id": range(i * 1000, (i + 1) * 1000), "name": [f"n-{i}"] * 1000})
        for i in range(20)
    ]
    options = {"write_page_index": True, "compression": "zstd", "row_group_size": 300}
    path = tmp_path / "joined.parquet"
    path.write_bytes(joined(*(parquet(table, **options) for table in tables)))

    whole = pa.concat_tables(tables)
    for low in (0, 999, 1000, 7_500, 19_999):
        wanted = whole.filter(pc.field("id") >= low).filter(pc.field("name") != "n-9")
        assert (
            ds.dataset(path)
            .to_table(filter=(ds.field("id") >= low) & (ds.field("name") != "n-9"))
            .equals(wanted)
        )
        scanned = pl.scan_parquet(path).filter(pl.col("id") >= low, pl.col("name") != "n-9")
        assert scanned.collect().to_arrow()["id"].to_pylist() == wanted["id"].to_pylist()


def test_delta_rs_reads_a_joined_file_and_its_dictionary_pages(tmp_path: Path) -> None:
    tables = [pa.table({"name": [f"n-{i % 7}" for i in range(n)]}) for n in (5, 5000, 1)]
    table = tmp_path / "t"
    pl.DataFrame(tables[0]).write_delta(str(table))
    (file,) = table.glob("*.parquet")
    file.write_bytes(joined(*(parquet(each, use_dictionary=True) for each in tables)))
    read = pq.read_table(file)
    assert read.equals(pa.concat_tables(tables).cast(read.schema))
    # The log's size is the old one, and readers that trust it would miss the footer.
    entry = table / "_delta_log" / f"{0:020d}.json"
    text = entry.read_text()
    before = next(int(part.split(":")[1]) for part in text.split(",") if part.startswith('"size"'))
    entry.write_text(text.replace(f'"size":{before}', f'"size":{file.stat().st_size}'))
    counts = pa.table(DeltaTable(table).to_pyarrow_dataset().to_table()).group_by("name")
    assert dict(
        zip(*counts.aggregate([([], "count_all")]).to_pydict().values(), strict=True)
    ) == dict(pl.concat(map(pl.DataFrame, tables)).get_column("name").value_counts().iter_rows())


def test_files_of_other_schemas_or_writers_are_no_kin() -> None:
    first = footer(parquet(pa.table({"a": [1]})))
    assert first.is_kin(footer(parquet(pa.table({"a": [2, 3]}), compression="zstd")))
    for other in (
        parquet(pa.table({"b": [1]})),
        parquet(pa.table({"a": [1.0]})),
        parquet(pa.table({"a": [1]}, pa.schema([pa.field("a", pa.int64(), nullable=False)]))),
    ):
        assert not footer(other).is_kin(first)
    polars = io.BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(polars)
    assert not footer(polars.getvalue()).is_kin(first)


def test_what_spark_notes_of_the_calendar_stays(tmp_path: Path) -> None:
    """Spark 3 refuses dates before 1582 of files that do not name the Spark that wrote them."""
    rows = pa.table({"day": pa.array([datetime.date(1, 1, 1)])})

    def file(**keys: str) -> bytes:
        names = {f"org.apache.spark.{name}": value for name, value in keys.items()}
        return parquet(rows.replace_schema_metadata({**names, "note": "of no reader"}))

    data = joined(file(version="4.2.0"), file(version="4.2.0"))
    keys = pq.read_metadata(io.BytesIO(data)).metadata
    assert keys == {b"org.apache.spark.version": b"4.2.0"}
    assert pq.read_metadata(io.BytesIO(joined(file()))).metadata is None
    assert pq.read_table(io.BytesIO(data))["day"].to_pylist() == [datetime.date(1, 1, 1)] * 2
    for other in (file(), file(version="3.5.0")):
        assert not footer(file(version="4.2.0")).is_kin(footer(other))
    for old in (file(version="2.4.8"), file(version="4.2.0", legacyDateTime="")):
        assert not footer(old).is_copyable(), "nobody but Spark knows which day it is"


@settings(deadline=None, max_examples=examples(25))
@given(cut=st.integers(0, 400), flip=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_damaged_footer_is_refused_or_stays_inside_its_file(
    cut: int, flip: int, bit: int
) -> None:
    data = bytearray(parquet(pa.table({"a": [1, 2], "b": ["x", None]}), store_schema=False))
    assert read_footer(io.BytesIO(data[: len(data) - 1 - cut])) is None or cut >= len(data)
    at = len(data) - 1 - flip % (len(data) // 2)
    data[at] ^= 1 << bit
    found = read_footer(io.BytesIO(data))
    if found is not None and found.is_copyable():
        joiner = Joiner(io.BytesIO())
        with contextlib.suppress(ValueError):  # A size that is refused while it is written.
            joiner.add(found, io.BytesIO(data))
        assert joiner.size_bytes <= 4 * len(data)


def test_a_footer_is_written_as_it_was_read() -> None:
    rows = pa.Table.from_pylist([{"id": i, "name": "x" * i} for i in range(40)], SCHEMA)
    data = parquet(rows, row_group_size=2, write_page_index=True)
    length = int.from_bytes(data[-8:-4], "little")
    assert encode(decode(data[-8 - length : -8])) == data[-8 - length : -8]


@settings(deadline=None, max_examples=examples(25))
@given(st.lists(st.lists(ROW, min_size=1, max_size=6), min_size=1, max_size=4))
def test_combined_statistics_bound_every_row(parts: list[list[dict[str, object]]]) -> None:
    tables = [pa.Table.from_pylist(rows, SCHEMA) for rows in parts]
    encoder = Encoder(SCHEMA)
    text = combine([encoder.encode(table)[0].stats for table in tables])
    assert text is not None
    whole = json.loads(text)
    rows = [row for part in parts for row in part]
    assert whole["numRecords"] == len(rows)
    at_once = json.loads(encoder.encode(pa.Table.from_pylist(rows, SCHEMA))[0].stats)
    assert whole["nullCount"] == at_once["nullCount"]
    for key, is_sound in (("minValues", operator.le), ("maxValues", operator.ge)):
        for name in ("id", "value", "name", "time", "day"):
            if name in whole[key]:
                assert is_sound(whole[key][name], at_once[key][name]), (key, name)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([None, '{"numRecords":1}'], None),
        (["{}"], None),
        (["not json"], None),
        # No bound in one part, which has values: no bound of the whole.
        (
            ['{"numRecords":1,"minValues":{"a":1},"nullCount":{"a":0}}', '{"numRecords":2}'],
            '{"numRecords":3,"minValues":{},"maxValues":{},"nullCount":{}}',
        ),
        # A part that is null throughout bounds nothing away.
        (
            [
                '{"numRecords":1,"minValues":{"a":1.50},"nullCount":{"a":0}}',
                '{"numRecords":2,"nullCount":{"a":2}}',
            ],
            '{"numRecords":3,"minValues":{"a":1.50},"maxValues":{},"nullCount":{"a":2}}',
        ),
        # Times without a zone sort as their texts do; beside those with one it is not sure.
        (
            [
                '{"numRecords":1,"minValues":{"a":"2024-01-01T00:00:00.008"}}',
                '{"numRecords":1,"minValues":{"a":"2024-01-01T00:00:00.001"}}',
            ],
            '{"numRecords":2,"minValues":{"a":"2024-01-01T00:00:00.001"},'
            '"maxValues":{},"nullCount":{}}',
        ),
        (
            [
                '{"numRecords":1,"minValues":{"a":"2024-01-01T00:00:00.008Z"}}',
                '{"numRecords":1,"minValues":{"a":"2024-01-01T00:00:00.001"}}',
            ],
            '{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{}}',
        ),
        # A field of a struct that is null in every row of a part.
        (
            [
                '{"numRecords":2,"minValues":{"a":{"b":3}},"nullCount":{"a":{"b":0,"c":1}}}',
                '{"numRecords":1,"minValues":{"a":{}},"nullCount":{"a":{"b":1}}}',
            ],
            '{"numRecords":3,"minValues":{"a":{"b":3}},"maxValues":{},"nullCount":{"a":{"b":1}}}',
        ),
        # Two spellings of times do not sort as the times do.
        (
            [
                '{"numRecords":1,"minValues":{"a":"2024-01-01T00:00:00.000Z"}}',
                '{"numRecords":1,"minValues":{"a":"2024-01-01T00:00:00.000001Z"}}',
            ],
            '{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{}}',
        ),
        (
            ['{"numRecords":1,"tightBounds":false}', '{"numRecords":1,"tightBounds":true}'],
            '{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{},"tightBounds":false}',
        ),
    ],
)
def test_what_is_not_known_of_a_part_is_not_known_of_the_whole(
    parts: list[str | None], expected: str | None
) -> None:
    assert combine(parts) == expected
