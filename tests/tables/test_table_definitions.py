"""A definition is checked when it is written down, and is plain data afterwards."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from neuralake.errors import UnknownName, UsageError
from neuralake.filters import Filter
from neuralake.tables import (
    Definition,
    DeltalakeTable,
    DeltaTable,
    ParquetTable,
    Partition,
    PartitioningScheme,
    Stream,
)

SCHEMA = pa.schema(
    [("session", pa.string()), ("channel", pa.int32()), ("x", pa.float64()), ("raw", pa.binary())]
)

PRICES = pa.schema([("price", pa.decimal128(9, 2)), ("x", pa.float64())])


def spikes(**changes: Any) -> DeltaTable:
    arguments: dict[str, Any] = {"name": "spikes", "uri": "neural/spikes", "schema": SCHEMA}
    return DeltaTable(**(arguments | changes))


def test_a_definition_is_a_value() -> None:
    table = spikes(tags=["a"], docs_columns={"x": "Volt."}, stream=Stream(flush_ms_max=200))

    assert table == spikes(tags=("a",), docs_columns={"x": "Volt."}, stream=Stream(200))
    assert table != replace(table, owner="lab")
    assert hash(table) == hash(replace(table, owner=""))
    assert pickle.loads(pickle.dumps(table)) == table  # noqa: S301 our own bytes
    with pytest.raises(FrozenInstanceError):
        table.name = "other"  # type: ignore[misc]  # on purpose


def test_every_kind_has_every_attribute() -> None:
    names = set(Definition.__dataclass_fields__)

    for table in (spikes(), ParquetTable("raw", "raw")):
        assert all(hasattr(table, name) for name in names - {"table_metadata_args", "_"})
    assert (spikes().kind, ParquetTable("raw", "raw").kind) == ("delta", "parquet")


def test_the_declared_schema_has_plain_types() -> None:
    loose = pa.schema([("s", pa.dictionary(pa.int32(), pa.large_string())), ("x", pa.int8())])

    assert spikes(schema=loose).schema == pa.schema([("s", pa.string()), ("x", pa.int8())])


def test_docs_are_tidied_and_kept() -> None:
    table = spikes(
        description="""
            Spike counts.

              - indented
            """,
        docs_filters=[("session", "=", "s-12")],
        docs_columns=["session", "x"],
        partition_by=["session"],
    )

    assert table.description == "Spike counts.\n\n  - indented"
    assert table.docs_filters == (Filter("session", "=", "s-12"),)
    assert table.docs_columns == {"session": "", "x": ""}
    assert table.partition_by == ("session",)


def test_none_where_datarepo_says_none_is_nothing() -> None:
    assert spikes(docs_columns=None, unique_columns=None) == spikes()


def test_what_moves_over_from_datarepo_says_the_same() -> None:
    table = DeltalakeTable(
        name="part",
        uri="s3://bucket/part",
        schema=SCHEMA,
        docs_filters=[Filter("channel", "=", 1)],
        unique_columns=["channel"],
        table_metadata_args={
            "data_input": "ERP",
            "latency_info": "daily",
            "example_notebook": "https://example.com/n.ipynb",
            "is_deprecated": True,
        },
    )

    metadata = table.table_metadata
    assert (metadata.table_type, metadata.data_input) == ("DELTA_LAKE", "ERP")
    assert metadata.docs_args == {"filters": [Filter("channel", "=", 1)], "columns": None}
    assert metadata.is_deprecated
    assert table.deprecated
    assert (table.latency_info, table.unique_columns) == ("daily", ("channel",))


@pytest.mark.parametrize("name", ["Spikes", "2d", "a-b", "a b", "", "ä", None])
def test_a_name_that_sql_would_quote_is_refused_with_one_to_try(name: Any) -> None:
    with pytest.raises(UsageError, match=r"Try '[a-z0-9_]+'") as caught:
        spikes(name=name)

    tried = str(caught.value).rpartition("Try ")[2].strip("'.")
    assert spikes(name=tried).name == tried


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": pa.schema([("x", pa.uint8())])}, "'x' has type uint8.*Use int16"),
        ({"schema": {"x": pl.Int8}}, "schema is a pyarrow.Schema, found dict"),
        ({"schema": pa.schema([])}, "no columns"),
        ({"uri": ""}, "uri is empty"),
        ({"uri": 3}, "uri is a text, found int"),
        ({"owner": None}, "owner is a text"),
        ({"tags": "one"}, "tags is a list of texts"),
        ({"tags": ["a", "a"]}, "names 'a' twice"),
        ({"partition_by": "session"}, "partition_by is a list"),
        ({"partition_by": ["x"]}, "partition column 'x' is double"),
        ({"cluster_by": "x"}, "cluster_by is a list"),
        ({"cluster_by": ["x", "x"]}, "cluster_by names 'x' twice"),
        (
            {"cluster_by": ["session"], "partition_by": ["session"]},
            "'session', which is in partition_by",
        ),
        (
            {
                "schema": pa.schema([("x", pa.int32()), ("l", pa.list_(pa.int32()))]),
                "cluster_by": ["l"],
            },
            "lists and structs have no order",
        ),
        ({"partition_by": ["raw"]}, "partition column 'raw' is binary"),
        (
            {
                "schema": pa.schema([("d", pa.decimal128(9, 2)), ("x", pa.int8())]),
                "partition_by": ["d"],
            },
            "partition column 'd' is decimal",
        ),
        ({"schema": PRICES, "partition_by": ["price"]}, r"'price' is decimal128\(9, 2\)"),
        ({"schema": pa.schema([("s", pa.string())]), "partition_by": ["s"]}, "every column"),
        ({"stream": True}, r"write stream=Stream\(\)"),
        ({"docs_columns": {"x": 1}}, "docs_columns is text by column"),
        ({"docs_filters": [Filter("channel", "=", "a")]}, "int32, the value is str"),
        (
            {"docs_filters": [[Filter("x", ">", 1)], [Filter("x", "<", 0)]]},
            "without alternatives",
        ),
        ({"table_metadata_args": {"latency": "1 s"}}, "no 'latency'.*mean 'latency_info'"),
    ],
    ids=str,
)
def test_a_mistake_in_a_definition_is_refused_with_its_place(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        spikes(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"partition_by": ["sesion"]},
        {"cluster_by": ["sesion"]},
        {"unique_columns": ["sesion"]},
        {"docs_columns": {"sesion": "."}},
        {"docs_filters": [Filter("sesion", "=", "a")]},
    ],
    ids=str,
)
def test_a_column_that_is_not_declared_is_refused_with_the_nearest(changes: Any) -> None:
    with pytest.raises(UnknownName, match=r"'sesion'.*Did you mean 'session'") as caught:
        spikes(**changes)

    assert caught.value.kind == "column"


@pytest.mark.parametrize(
    "limits",
    [{"flush_ms_max": 0}, {"flush_rows_max": -1}, {"flush_bytes_max": 1.5}, {"flush_ms_max": True}],
    ids=str,
)
def test_a_stream_limit_is_a_positive_whole_number(limits: Any) -> None:
    with pytest.raises(UsageError, match="greater than 0, or None"):
        Stream(**limits)


def test_a_stream_may_not_keep_rows_waiting_for_minutes() -> None:
    with pytest.raises(UsageError, match="at most 60000 ms"):
        Stream(flush_ms_max=60_001)


def test_a_parquet_table_takes_polars_or_arrow_types() -> None:
    table = ParquetTable(
        name="events",
        uri="events/*.parquet",
        partitioning=[Partition("device", pl.String), Partition("day", pa.date32())],
        partitioning_scheme=PartitioningScheme.DIRECTORY,
        schema={"v": pl.UInt16, "l": pl.List(pl.Float32), "day": pl.Date},
    )

    assert table.columns == ["v", "l", "day", "device"]
    assert table.schema is not None
    assert table.schema.field("v").type == pa.uint16()
    assert table.partition_schema == pa.schema([("device", pa.string()), ("day", pa.date32())])
    assert table.partition_by == ("device", "day")
    assert pickle.loads(pickle.dumps(table)) == table  # noqa: S301 our own bytes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"partitioning_scheme": "hive"}, "PartitioningScheme.HIVE or .DIRECTORY"),
        ({"partitioning": ["device"]}, r"list of Partition\(column, type\)"),
        ({"partitioning": [Partition("device", "text")]}, "no Polars or Arrow type"),
        ({"schema": [("v", pa.int8())]}, "pyarrow.Schema or Polars types"),
        ({"uri": ""}, "uri is empty"),
    ],
    ids=str,
)
def test_a_mistake_in_a_parquet_table_is_refused(changes: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ParquetTable(**({"name": "events", "uri": "events"} | changes))
