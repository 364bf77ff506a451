"""SQL agrees with frames on a Delta table that is defined but not there."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from neuralake.catalog import Catalog, Database
from neuralake.errors import UnknownName
from neuralake.serve.query import query
from neuralake.settings import Settings
from neuralake.tables import DeltaTable, Stream

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    tables = [
        DeltaTable("mistyped", "lab/not-there", SCHEMA),
        DeltaTable("stream", "lab/stream", SCHEMA, stream=Stream()),
    ]
    return Catalog({"lab": Database(tables)}, settings=Settings(folder=str(tmp_path)))


def test_a_table_that_is_not_there_is_an_error_by_both_ways(catalog: Catalog) -> None:
    with pytest.raises(UnknownName):
        catalog.db("lab").table("mistyped").collect()
    with pytest.raises(UnknownName, match="no Delta table is there") as caught:
        query(catalog, "SELECT * FROM lab.mistyped")

    assert caught.value.name == "lab.mistyped"


def test_a_stream_before_its_first_commit_is_empty_by_both_ways(catalog: Catalog) -> None:
    frame = catalog.db("lab").table("stream").collect()
    answer = query(catalog, "SELECT * FROM lab.stream")

    assert frame.schema == pl.Schema({"id": pl.Int64})
    assert (frame.height, answer.num_rows, answer.schema.names) == (0, 0, ["id"])
