"""Values and names become source text that means the same, whatever is in them."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import datafusion
import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.filters import Filter, expression
from neuralake.manifest import python_literal, python_text, sql_name, sql_predicate
from neuralake.manifest.columns import example_row, partition_value, type_text, value_text

UTC = datetime.UTC
ROWS = pa.table(
    {
        "text": ["a", "it's", 'say "x"', None, "", "a\nb\\"],
        "number": pa.array([1, -2, 3, None, 0, 2**62], pa.int64()),
        "double": [0.5, -1.25, None, math.inf, 1e300, 0.0],
        "price": pa.array([Decimal("1.10"), Decimal("-2.00"), None] * 2, pa.decimal128(6, 2)),
        "flag": [True, False, None] * 2,
        "day": [datetime.date(2026, 1, d) for d in range(1, 7)],
        "at": pa.array(
            [datetime.datetime(2026, 1, d, 12, tzinfo=UTC) for d in range(1, 7)],
            pa.timestamp("us", tz="UTC"),
        ),
        "wall": pa.array(
            [datetime.datetime(2026, 1, d, 12) for d in range(1, 7)],
            pa.timestamp("us"),
        ),
        "blob": [b"a", b"'", None, b"\x00", b"", b"\xff"],
        "many": [[1, 2], [2], [], None, [3, None], [1, 3]],
        "select": ["x", "y", None, "z", "x", "x"],
        "Mixed": [1, 2, 3, 4, 5, 6],
        'quo"te': [1, 2, 3, 4, 5, 6],
    }
)


@pytest.mark.parametrize(
    "condition",
    [
        Filter("text", "=", "it's"),
        Filter("text", "=", 'say "x"'),
        Filter("text", "!=", "a\nb\\"),
        Filter("text", "contains", "'"),
        Filter("text", "in", ["a", "it's"]),
        Filter("text", "in", []),
        Filter("text", "not in", ["a"]),
        Filter("text", "not in", []),
        Filter("text", "is null"),
        Filter("text", "is not null"),
        Filter("number", ">=", 0),
        Filter("number", "<", -1),
        Filter("number", "in", [1, 2**62]),
        Filter("double", "<", 1.5),
        Filter("double", "=", math.inf),
        Filter("price", "=", Decimal("1.10")),
        Filter("price", "<=", 1.1),
        Filter("flag", "=", True),
        Filter("flag", "!=", True),
        Filter("day", ">", datetime.date(2026, 1, 3)),
        Filter("day", "=", "2026-01-02"),
        Filter("at", ">=", datetime.datetime(2026, 1, 3, 12, tzinfo=UTC)),
        Filter("at", "<", "2026-01-03T12:00:00Z"),
        Filter("wall", "<", "2026-01-03T12:00:00"),
        Filter("blob", "=", b"'"),
        Filter("blob", "=", b"\xff"),
        Filter("many", "includes", 1),
        Filter("many", "includes any", [2, 3]),
        Filter("many", "includes all", [1, 2]),
        Filter("select", "=", "x"),
        Filter("Mixed", ">", 4),
        Filter('quo"te', ">", 4),
    ],
    ids=str,
)
def test_the_sql_of_a_filter_keeps_the_rows_that_the_filter_keeps(condition: Filter) -> None:
    context = datafusion.SessionContext()
    context.register_record_batches("rows", [ROWS.to_batches()])

    where = sql_predicate(condition)
    sql = f'SELECT "Mixed" FROM rows WHERE {where} ORDER BY "Mixed"'  # noqa: S608 the claim
    by_sql = [row for batch in context.sql(sql).collect() for row in batch["Mixed"].to_pylist()]

    frame = pl.DataFrame(ROWS).filter(expression(condition, ROWS.schema))
    assert by_sql == frame["Mixed"].to_list()


@pytest.mark.parametrize("condition", [Filter("text", "=", "a"), Filter("price", "in", [1, 2.5])])
def test_the_python_of_a_value_makes_the_same_filter(condition: Filter) -> None:
    value = eval(python_literal(condition.value), {"Decimal": Decimal})  # noqa: S307 our own text

    assert Filter(condition.column, condition.operator, value) == condition


@given(st.text())
@settings(deadline=None, max_examples=examples(50))
def test_any_text_comes_back_from_its_python_literal(text: str) -> None:
    literal = python_text(text)

    assert eval(literal) == text  # noqa: S307 our own text
    assert len(literal.splitlines()) == 1


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1))
@settings(deadline=None, max_examples=examples(20))
def test_any_name_comes_back_from_sql(name: str) -> None:
    rows = datafusion.SessionContext().sql(f"SELECT 1 AS {sql_name(name)}").to_arrow_table()

    assert rows.schema.names == [name]


@pytest.mark.parametrize("name", ["user", "order", "time", "2x", "A", "a b", 'a"b', "ü", "end"])
def test_names_that_sql_would_misread_are_quoted(name: str) -> None:
    assert sql_name(name) == '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.timestamp("us", tz="UTC"), "timestamp (UTC)"),
        (pa.timestamp("us"), "timestamp"),
        (pa.date32(), "date"),
        (pa.decimal128(10, 2), "decimal(10, 2)"),
        (pa.float64(), "float64"),
        (pa.float32(), "float32"),
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.list_(pa.struct([("a", pa.float32())])), "list<struct<a: float32>>"),
    ],
    ids=str,
)
def test_types_read_as_people_write_them(kind: pa.DataType, text: str) -> None:
    assert type_text(kind) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456789, "1.23457"),
        (datetime.datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=UTC), "2026-01-02 03:04:05.6"),
        (True, "true"),
        (b"abc", "3 bytes"),
        ("x" * 50, "x" * 39 + "…"),
    ],
)
def test_values_are_short_enough_for_a_cell(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_partition_text_becomes_the_value_that_a_filter_takes() -> None:
    at = partition_value("2026-01-02 03:04:05.000000", pa.timestamp("us", tz="UTC"))

    assert at == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert partition_value("1.50", pa.decimal128(4, 2)) == Decimal("1.50")
    assert partition_value("true", pa.bool_()) is True
    assert partition_value("7", pa.int8()) == 7


def test_known_values_of_another_json_type_do_not_enter_the_example_row() -> None:
    schema = pa.schema([("a", pa.int32()), ("b", pa.string())])

    assert example_row(schema, {"a": "7", "b": "x", "c": 1}) == {"a": 1, "b": "x"}
    assert example_row(schema, {"a": 7}) == {"a": 7, "b": "text"}
