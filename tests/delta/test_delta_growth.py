"""Columns are added to a table: alone, or by the commit of the first rows that have them."""

from __future__ import annotations

import threading
from pathlib import Path

import deltalake
import polars as pl
import pyarrow as pa
import pytest

from neuralake.delta import TableLog, Txn, add_columns, added_columns, create_table
from neuralake.errors import SchemaMismatch, UnsupportedFeature, UsageError

SCHEMA = pa.schema([("id", pa.int64())])
X = pa.field("x", pa.int64())


@pytest.fixture
def uri(tmp_path: Path) -> str:
    create_table(str(tmp_path / "t"), SCHEMA)
    return str(tmp_path / "t")


def rows(number: int, **more: object) -> pa.Table:
    return pa.table({"id": [number], **{name: [value] for name, value in more.items()}})


def read(uri: str) -> pl.DataFrame:
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(uri))
    found = pl.from_arrow(pa.table(query.execute("SELECT * FROM t ORDER BY id").read_all()))
    assert isinstance(found, pl.DataFrame)
    return found


def test_rows_and_their_column_are_one_commit_that_other_engines_read(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1))

    commit = log.append(rows(2, x=7), txn=Txn("a", 1), new_columns=[X])
    log.append(rows(3, x=8))

    assert log.schema.names == ["id", "x"]
    assert read(uri).to_dict(as_series=False) == {"id": [1, 2, 3], "x": [None, 7, 8]}
    (came,) = added_columns(log.state.metadata)
    assert (came.name, came.type, came.version) == ("x", "int64", commit.version)


def test_a_lost_race_against_the_same_column_adds_it_once(uri: str) -> None:
    first, second = TableLog.open(uri), TableLog.open(uri)

    first.append(rows(1, x=1), new_columns=[X])
    second.append(rows(2, x=2, y=True), new_columns=[X, pa.field("y", pa.bool_())])
    first.append(rows(3, x=3))

    assert read(uri)["x"].to_list() == [1, 2, 3]
    names = [one.name for one in added_columns(TableLog.open(uri).state.metadata)]
    assert names == ["x", "y"]


def test_a_lost_race_against_another_type_commits_nothing(uri: str) -> None:
    first, second = TableLog.open(uri), TableLog.open(uri)
    first.append(rows(1, x=1), new_columns=[X])

    with pytest.raises(SchemaMismatch):
        second.append(rows(2, x="a"), new_columns=[pa.field("x", pa.string())])

    assert read(uri)["id"].to_list() == [1]
    assert len(list(Path(uri).glob("*.parquet"))) == 1


def test_a_repeated_txn_adds_nothing(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1), txn=Txn("a", 1))

    assert log.append(rows(1, x=1), txn=Txn("a", 1), new_columns=[X]).repeated
    assert log.schema.names == ["id"]


def test_many_processes_that_add_columns_at_once_add_each_once(uri: str) -> None:
    errors: list[Exception] = []

    def run(number: int) -> None:
        try:
            log = TableLog.open(uri)
            for at in range(4):
                add_columns(log, [pa.field(f"c{at}", pa.int64())])
                log.append(rows(number))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert TableLog.open(uri).schema.names == ["id", "c0", "c1", "c2", "c3"]
    assert read(uri).height == 16


def test_what_cannot_be_added_is_refused(uri: str, tmp_path: Path) -> None:
    log = TableLog.open(uri)
    with pytest.raises(UsageError, match="nullable"):
        add_columns(log, [pa.field("x", pa.int64(), nullable=False)])
    with pytest.raises(UnsupportedFeature, match="zone"):
        add_columns(log, [pa.field("x", pa.timestamp("us"))])
    listing = str(tmp_path / "listing")
    create_table(listing, SCHEMA, properties={"delta.enableChangeDataFeed": "true"})
    inner = pa.struct([pa.field("a", pa.int32(), nullable=False)])
    with pytest.raises(UnsupportedFeature, match="invariants"):
        add_columns(TableLog.open(listing), [pa.field("x", inner)])
    mapped = str(tmp_path / "mapped")
    create_table(mapped, SCHEMA, properties={"delta.columnMapping.mode": "name"})
    with pytest.raises(UnsupportedFeature, match="maps"):
        add_columns(TableLog.open(mapped), [X])
