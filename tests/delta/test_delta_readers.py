"""Every reader sees exactly what was appended, for every type and partition value we accept."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datafusion
import polars as pl
import pyarrow as pa
import pyarrow.fs as fs
import pytest
from deltalake import DeltaTable, QueryBuilder
from every_type import COLUMNS, every_type

from neuralake.delta import TableLog, compact_once, create_table, normalise
from neuralake.errors import InvalidRows, SchemaMismatch, UsageError

DAY = datetime.date


def query_builder(uri: str) -> pa.Table:
    reader = QueryBuilder().register("t", DeltaTable(uri)).execute("select * from t order by id")
    return pa.table(reader)


def dataset(uri: str) -> pa.Table:
    local = fs.SubTreeFileSystem(uri, fs.LocalFileSystem())
    return DeltaTable(uri).to_pyarrow_dataset(filesystem=local).to_table().sort_by("id")


def polars(uri: str) -> pa.Table:
    return pl.scan_delta(uri).sort("id").collect().to_arrow()


def data_fusion(uri: str) -> pa.Table:
    context = datafusion.SessionContext()
    context.register_table("t", DeltaTable(uri))
    return context.sql("select * from t order by id").to_arrow_table()


READERS = [query_builder, dataset, polars, data_fusion]

PARTITION_VALUES: dict[str, list[Any]] = {
    name: [*values, None]
    for name, (kind, values) in COLUMNS.items()
    if pa.types.is_integer(kind)
    or pa.types.is_boolean(kind)
    or pa.types.is_date(kind)
    or pa.types.is_timestamp(kind)
}
PARTITION_VALUES["string"] = [
    *["a b", "x/y", "é%=", "", None, "100%", "a=b", "日本", "..", ".", "a?b#c", "'q\"", "\\back"],
    *["x" * 200, "é" * 30, "~t", "a%20b", "+", "&", ":*<>|", "\n", "\x01", " ", "null", "NULL"],
]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    """A table with every type, three values and a null each, in two commits."""
    uri = str(tmp_path_factory.mktemp("types") / "table")
    rows = every_type()
    create_table(uri, rows.schema)
    log = TableLog.open(uri)
    log.append(rows.slice(0, 1))
    log.append(rows.slice(1))
    return uri, rows


@pytest.mark.parametrize("read", READERS)
def test_every_type_reads_back_exactly(
    everything: tuple[str, pa.Table], read: Callable[[str], pa.Table]
) -> None:
    uri, rows = everything

    assert facts(read(uri).select(rows.column_names)) == facts(rows)


@pytest.mark.parametrize("name", PARTITION_VALUES)
@pytest.mark.parametrize("read", READERS)
def test_every_partition_value_reads_back_exactly_also_after_compaction(
    tmp_path: Path, name: str, read: Callable[[str], pa.Table]
) -> None:
    uri = str(tmp_path / "table")
    values, kind = PARTITION_VALUES[name], COLUMNS[name][0]
    rows = pa.table({"id": list(range(len(values))), "p": pa.array(values, kind)})
    create_table(uri, rows.schema, partition_by=["p"])
    log = TableLog.open(uri)
    log.append(rows)
    log.append(rows)
    twice = pa.concat_tables([normalise(rows, ["p"])] * 2).sort_by("id")

    assert facts(read(uri).select(["id", "p"])) == facts(twice)
    done = compact_once(uri, target_bytes=2**20, files_min=2)
    assert done.rows == 2 * len(rows)
    assert facts(read(uri).select(["id", "p"])) == facts(twice)


@pytest.mark.parametrize("value", PARTITION_VALUES["string"])
def test_a_filter_on_a_partition_finds_its_rows(tmp_path: Path, value: str | None) -> None:
    uri = str(tmp_path / "table")
    rows = pa.table({"id": [1, 2], "p": pa.array([value, "other"])})
    create_table(uri, rows.schema, partition_by=["p"])
    TableLog.open(uri).append(rows)

    p = pl.col("p")
    assert pl.scan_delta(uri).filter(p == value if value else p.is_null()).collect().height == 1
    context = datafusion.SessionContext()
    context.register_table("t", DeltaTable(uri))
    column = datafusion.col("p")
    predicate = column == datafusion.lit(value) if value else column.is_null()
    assert context.table("t").filter(predicate).count() == 1


def test_several_partition_columns_are_told_apart(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    days = [DAY(2024, 1, 1), DAY(2024, 1, 1), None, DAY(2024, 1, 2)]
    rows = pa.table({"id": [0, 1, 2, 3], "day": days, "x": ["a", "", "a", None], "n": [1, 1, 2, 2]})
    create_table(uri, rows.schema, partition_by=["day", "x"])
    done = TableLog.open(uri).append(rows)

    assert done.files == 4
    for read in READERS:
        assert facts(read(uri).select(rows.column_names)) == facts(normalise(rows, ["x"]))


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.binary(), pa.decimal128(5, 2), pa.list_(pa.int32())]
)
def test_types_whose_text_readers_disagree_about_cannot_partition(
    tmp_path: Path, kind: pa.DataType
) -> None:
    with pytest.raises(UsageError, match="cannot be a partition column") as caught:
        create_table(str(tmp_path), pa.schema([("x", kind), ("y", pa.int8())]), partition_by=["x"])
    assert caught.value.column == "x"


@pytest.mark.parametrize(
    ("value", "reason"),
    [("x" * 300, "bytes"), ("é" * 50, "bytes"), ("__HIVE_DEFAULT_PARTITION__", "stands for null")],
)
def test_a_partition_value_that_no_folder_can_hold_is_refused_with_its_row(
    value: str, reason: str
) -> None:
    rows = pa.table({"p": ["fine", value]})

    with pytest.raises(InvalidRows, match=reason) as caught:
        normalise(rows, ["p"])
    assert (caught.value.row, caught.value.column) == (1, "p")


def test_an_empty_string_in_a_partition_that_is_not_nullable_is_refused_with_its_row() -> None:
    rows = pa.table([pa.array(["a", ""])], pa.schema([pa.field("p", pa.string(), nullable=False)]))

    with pytest.raises(SchemaMismatch, match="empty string") as caught:
        normalise(rows, ["p"])
    assert (caught.value.row, caught.value.column) == (1, "p")


def facts(rows: pa.Table) -> list[str]:
    """Rows as text that tells NaN, -0.0 and None apart."""
    return [repr(row) for row in rows.to_pylist()]
