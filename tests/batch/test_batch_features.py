"""Batch writes on tables of other engines' features: mapped columns, and deletion vectors."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from delta_tables import delete_rows, inline_vector, read_all
from deltalake import DeltaTable, QueryBuilder

from neuralake.batch import BatchWriter
from neuralake.delta import compact_once, create_table, snapshot
from neuralake.delta.files import store_name
from neuralake.filters import Filter

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string()), ("x", pa.float64())])
ROWS = [{"id": number, "site": "ab"[number % 2], "x": number / 2} for number in range(6)]


@pytest.fixture(params=["name", "id"])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A table whose files and log call its columns otherwise."""
    uri = str(tmp_path / "mapped")
    properties = {"delta.columnMapping.mode": request.param}
    create_table(uri, SCHEMA, partition_by=["site"], properties=properties)
    BatchWriter(uri).append(ROWS)
    return uri


def read(uri: str) -> list[tuple[int, str, float]]:
    query = QueryBuilder().register("t", DeltaTable(uri)).execute("SELECT * FROM t ORDER BY id")
    return pl.DataFrame(pa.table(query.read_all())).select(SCHEMA.names).rows()


def test_every_write_knows_the_columns_of_a_mapped_table(mapped: str) -> None:
    table = BatchWriter(mapped)

    table.delete(Filter("id", "=", 0))
    table.merge([{"id": 1, "site": "a", "x": 9.0}, {"id": 2, "site": "a"}], on="id")
    table.overwrite([{"id": 3, "site": "b", "x": 7.0}], Filter("site", "=", "b"))
    table.merge([{"id": 2, "x": 8.0}], on="id")

    assert read(mapped) == [(1, "a", 9.0), (2, "a", 8.0), (3, "b", 7.0), (4, "a", 2.0)]
    table.overwrite_partitions([{"id": 5, "site": "a", "x": 5.0}])
    assert read(mapped) == [(3, "b", 7.0), (5, "a", 5.0)]


def test_files_of_a_mapped_table_are_skipped_by_their_statistics(mapped: str) -> None:
    """Their files are gone, and nobody notices."""
    for file in snapshot(mapped).files:
        Path(mapped, store_name(file.path)).unlink()
    table = BatchWriter(mapped)

    assert table.delete(Filter("id", ">", 5)).version == 1
    assert table.merge([{"id": 6}], on="id", when_not_matched="ignore").version == 1
    assert table.delete(Filter("site", "=", "a")).rows_deleted == 3


def test_rows_that_a_deletion_vector_removed_stay_removed(tmp_path: Path) -> None:
    """Files are rewritten without their vectors, and the counts are of living rows."""
    uri = str(tmp_path / "t")
    features = {"delta.enableDeletionVectors": "true"}
    create_table(uri, SCHEMA, partition_by=["site"], properties=features)
    table = BatchWriter(uri)
    table.append(ROWS)
    for place in ("a", "b"):
        (file,) = [file for file in snapshot(uri).files if file.partition["site"] == place]
        delete_rows(uri, file, inline_vector([1]))
    assert sorted(read_all(uri)["id"].to_pylist()) == [0, 1, 4, 5]

    assert table.delete(Filter("id", "<=", 2)).rows_deleted == 2
    assert sorted(read_all(uri)["id"].to_pylist()) == [4, 5]
    assert all(file.deletion_vector is None for file in snapshot(uri).files)


def test_a_partition_with_a_deletion_vector_goes_with_its_living_rows(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    features = {"delta.enableDeletionVectors": "true"}
    create_table(uri, SCHEMA, partition_by=["site"], properties=features)
    table = BatchWriter(uri)
    table.append(ROWS)
    (file,) = [file for file in snapshot(uri).files if file.partition["site"] == "a"]
    delete_rows(uri, file, inline_vector([0, 2]))

    assert table.merge([{"id": 4}], on="id", when_not_matched="ignore").version == 2
    assert table.delete(Filter("site", "=", "a")).rows_deleted == 1
    compact_once(uri, target_bytes=2**20, files_min=2)
    assert sorted(read_all(uri)["id"].to_pylist()) == [1, 3, 5]
