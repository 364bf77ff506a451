"""Rows of every accepted kind become the table's, and no value is changed on the way."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from neuralake.batch.rows import fitted, given
from neuralake.errors import SchemaMismatch, UsageError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("s", pa.string())])
WANTED = [{"id": 1, "s": "a"}, {"id": 2, "s": None}]
TABLE = pa.table({"id": [1, 2], "s": ["a", None]})


@pytest.mark.parametrize(
    "rows",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(),
        pl.DataFrame(TABLE),
        pl.LazyFrame(pl.DataFrame(TABLE)),
        WANTED,
        [{"id": 1, "s": "a"}, {"id": 2}],
        iter(WANTED),
    ],
    ids=["table", "batch", "reader", "frame", "lazy", "dicts", "without nulls", "iterator"],
)
def test_every_kind_of_rows_is_taken(rows: Any) -> None:
    assert fitted(rows, SCHEMA, name="t").to_pylist() == WANTED


@pytest.mark.parametrize("rows", [[], pa.table({}), pl.DataFrame()])
def test_no_rows_are_rows(rows: Any) -> None:
    assert fitted(rows, SCHEMA.remove(0), name="t").num_rows == 0


@pytest.mark.parametrize("rows", ["text", b"", {"id": 1}, 7, None])
def test_what_is_no_rows_is_told(rows: Any) -> None:
    with pytest.raises(UsageError, match=f"found {type(rows).__name__}"):
        fitted(rows, SCHEMA, name="t")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int32(), 1.5),
        (pa.int8(), 300),
        (pa.int64(), "1"),
        (pa.int64(), True),
        (pa.bool_(), 1),
        (pa.string(), 1),
        (pa.string(), b"x"),
        (pa.binary(), "x"),
        (pa.float32(), 2**24 + 1),
        (pa.decimal128(5, 2), 0.1),
        (pa.decimal128(5, 2), Decimal("1.005")),
        (pa.timestamp("us", tz="UTC"), datetime.datetime(2024, 1, 1)),
        (pa.timestamp("us"), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
        (pa.timestamp("us"), 5),
        (pa.date32(), datetime.datetime(2024, 1, 1, 3)),
        (pa.date32(), 5),
        (pa.struct([("a", pa.int32())]), {"a": 1, "b": 2}),
    ],
    ids=str,
)
def test_a_value_that_would_change_is_refused(kind: pa.DataType, value: Any) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        fitted([{"x": value}], pa.schema([("x", kind)]), name="t")

    assert caught.value.column == "x"


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (pa.float32(), 0.1, 0.10000000149011612),
        (pa.list_(pa.float32()), [0.5, None], [0.5, None]),
        (pa.struct([("a", pa.float32())]), {"a": 0.5}, {"a": 0.5}),
        (pa.float64(), 3, 3.0),
        (pa.decimal128(5, 2), Decimal("1.5"), Decimal("1.50")),
        (pa.decimal128(5, 2), 7, Decimal("7.00")),
        (
            pa.timestamp("us", tz="UTC"),
            datetime.datetime(2024, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        ),
        (pa.list_(pa.int32()), [], []),
        (pa.struct([("a", pa.int32()), ("b", pa.string())]), {"a": 1}, {"a": 1, "b": None}),
    ],
    ids=str,
)
def test_python_values_become_the_columns(kind: pa.DataType, value: Any, stored: Any) -> None:
    found = fitted([{"x": value}, {"x": None}], pa.schema([("x", kind)]), name="t")

    assert found["x"].to_pylist() == [stored, None]


@pytest.mark.parametrize(
    "values",
    [
        [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)],
        [datetime.date(2024, 1, 1), None, datetime.datetime(2024, 1, 1)],
    ],
)
def test_wall_clocks_instants_and_dates_are_not_mixed(values: list[Any]) -> None:
    rows = [{"x": value} for value in values]

    with pytest.raises(SchemaMismatch, match=f"row {len(values) - 1} has datetime"):
        fitted(rows, pa.schema([("x", pa.timestamp("us"))]), name="t")


def test_columns_are_checked_by_name_and_missing_ones_may_stay_missing() -> None:
    with pytest.raises(SchemaMismatch, match=r"no column 'ids'.* Did you mean 'id'"):
        fitted([{"ids": 1}], SCHEMA, name="t")
    with pytest.raises(SchemaMismatch, match="'id' of 't' is not nullable, but row 0"):
        fitted([{"s": "x"}], SCHEMA, name="t")
    with pytest.raises(UsageError, match="row 1 is int"):
        fitted([{"id": 1}, 2], SCHEMA, name="t")

    assert given([{"s": "x"}], SCHEMA, name="t").schema.names == ["s"]
