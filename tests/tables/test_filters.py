"""Filters mean what they say, or are refused with the reason."""

from __future__ import annotations

import math
import operator as op
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.errors import UnknownName, UsageError
from neuralake.filters import Filter, check, expression, normalise

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2024, 3, 1)
SCHEMA = pa.schema(
    [
        ("n", pa.int8()),
        ("x", pa.float64()),
        ("price", pa.decimal128(10, 2)),
        ("site", pa.string()),
        ("raw", pa.binary()),
        ("ok", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("clock", pa.timestamp("us")),
        ("tags", pa.list_(pa.string())),
        ("pose", pa.struct([("x", pa.float64())])),
    ]
)
ROWS = pa.table(
    [
        [1, 2, None],
        [0.5, 1.5, None],
        [Decimal("10.10"), Decimal("20.00"), None],
        ["a", "b.c", None],
        [b"\0", b"\1", None],
        [True, False, None],
        [date(2024, 3, 1), date(2024, 3, 2), None],
        [NOON, NOON + timedelta(hours=1), None],
        [MIDNIGHT, MIDNIGHT + DAY, None],
        [["x", "y"], ["y"], None],
        [{"x": 1.0}, {"x": 2.0}, None],
    ],
    schema=SCHEMA,
)


def kept(*filters: Any) -> list[int]:
    """Indices of the rows that the filters keep."""
    rows = pl.DataFrame(ROWS).with_row_index("row")
    return rows.filter(expression(normalise(*filters), SCHEMA))["row"].to_list()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (Filter("n", "=", 1), [0]),
        (Filter("n", "==", 1), [0]),
        (Filter("n", "!=", 1), [1]),
        (Filter("n", "<", 1000), [0, 1]),
        (Filter("n", ">", 1.5), [1]),
        (Filter("n", "in", [1, 1000]), [0]),
        (Filter("n", "in", {2.0, 1.5}), [1]),
        (Filter("n", "in", []), []),
        (Filter("n", "not in", [1]), [1]),
        (Filter("n", "NOT  IN", [1]), [1]),
        (Filter("x", ">=", 1), [1]),
        (Filter("x", "<", math.inf), [0, 1]),
        (Filter("price", "=", 10.1), [0]),
        (Filter("price", "=", Decimal("10.1")), [0]),
        (Filter("price", ">", 15), [1]),
        (Filter("price", "in", [20]), [1]),
        (Filter("site", "=", "a"), [0]),
        (Filter("site", "contains", "."), [1]),
        (Filter("raw", "=", b"\1"), [1]),
        (Filter("ok", "=", False), [1]),
        (Filter("day", ">", date(2024, 3, 1)), [1]),
        (Filter("day", "=", "2024-03-01"), [0]),
        (Filter("at", "<=", NOON.astimezone(timezone(timedelta(hours=5)))), [0]),
        (Filter("at", ">", "2024-03-01T13:30:00+01:00"), [1]),
        (Filter("clock", "=", MIDNIGHT + DAY), [1]),
        (Filter("tags", "includes", "x"), [0]),
        (Filter("tags", "includes any", ["x", "z"]), [0]),
        (Filter("tags", "includes all", ["x", "y"]), [0]),
        (Filter("site", "is null"), [2]),
        (Filter("pose", "is not null"), [0, 1]),
    ],
    ids=str,
)
def test_each_operator_keeps_the_rows_it_names_and_never_a_null(
    condition: Filter, rows: list[int]
) -> None:
    assert kept(condition) == rows


def test_filters_in_a_list_must_all_hold_and_of_lists_one_must() -> None:
    one, two = Filter("n", "=", 1), Filter("n", "=", 2)

    assert kept(one, two) == kept([one, two]) == kept([[one, two]]) == []
    assert kept([[one], [two]]) == [0, 1]
    assert kept([[one], [two]], Filter("ok", "=", True)) == [0]
    assert kept(("n", "=", 1)) == kept([("n", "=", 1)]) == [0]
    assert kept() == kept([]) == kept(None) == kept([[one], []]) == [0, 1, 2]


def test_what_is_in_one_shape_stays_in_it() -> None:
    shape = normalise([[Filter("n", "=", 1)], [Filter("x", ">", 1.0), Filter("ok", "=", True)]])

    assert normalise(shape) == check(shape, SCHEMA) == shape


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'spikes' has no column 'sitee'.*mean 'site'") as caught:
        check(Filter("sitee", "=", "a"), SCHEMA, name="spikes")

    assert (caught.value.kind, caught.value.name) == ("column", "sitee")
    assert caught.value.known == SCHEMA.names


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Filter("n", "=", "1"), "column 'n' is int8, the value is str '1'"),
        (Filter("n", "=", True), "the value is bool"),
        (Filter("n", "in", [1, "2"]), "column 'n' is int8"),
        (Filter("site", "=", 1), "column 'site' is string, the value is int 1"),
        (Filter("site", "contains", 1), "Both must be text"),
        (Filter("n", "contains", "1"), "Both must be text"),
        (Filter("raw", "=", "a"), "column 'raw' is binary"),
        (Filter("ok", "=", 1), "column 'ok' is bool"),
        (Filter("price", "=", "10"), "column 'price' is decimal"),
        (Filter("day", "=", NOON), "column 'day' is date32"),
        (Filter("day", "=", "March"), "YYYY-MM-DD"),
        (Filter("at", "=", date(2024, 3, 1)), "column 'at' is timestamp"),
        (Filter("at", "=", MIDNIGHT), "has no zone, the column needs one"),
        (Filter("at", "=", "noon"), "ISO 8601"),
        (Filter("clock", "=", NOON), "has a zone, the column needs none"),
        (Filter("site", "includes", "a"), "must be a list"),
        (Filter("tags", "includes", 1), "column 'tags' is list"),
        (Filter("tags", "=", "x"), r"on the frame, with .filter\("),
        (Filter("pose", "=", 1), r"on the frame, with .filter\("),
    ],
    ids=str,
)
def test_a_value_that_cannot_compare_is_refused_naming_both_types(
    condition: Filter, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        check(condition, SCHEMA)

    assert caught.value.column == condition.column


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("n", "equals", 1), "Operators: =, !="),
        (("n", "not inn", 1), "Did you mean 'not in'"),
        ((1, "=", 1), "a filter is a column name"),
        (("n", None, 1), "a filter is a column name"),
        (("n", "="), "is null"),
        (("n", "is null", 1), "takes no value"),
        (("n", "in", 1), "takes a list"),
        (("n", "in", "abc"), "takes a list"),
        (("n", "in", [1, None]), "null equals nothing"),
    ],
)
def test_a_filter_that_makes_no_sense_cannot_be_written_down(
    arguments: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        Filter(*arguments)


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ("n = 1", "Expected filters, found str"),
        (pl.col("n") == 1, r"use .filter\(expression\)"),
        ([Filter("n", "=", 1), [Filter("n", "=", 1)]], "mixed in one list"),
        ([[[Filter("n", "=", 1)], [Filter("n", "=", 2)]]], "not deeper"),
    ],
)
def test_what_is_no_filter_is_named(filters: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        normalise(filters)


def test_a_filter_is_a_value() -> None:
    condition = Filter("n", "in", [1, 2])
    column, operator, value = condition

    assert (column, operator, value) == ("n", "in", (1, 2))
    assert {condition} == {Filter("n", "in", (1, 2)), pickle.loads(pickle.dumps(condition))}  # noqa: S301 our own bytes
    assert str(Filter("at", ">", NOON)) == "at > 2024-03-01T12:00:00+00:00"


PYTHON: dict[str, Callable[[float, float], bool]] = {
    "=": op.eq,
    "!=": op.ne,
    "<": op.lt,
    "<=": op.le,
    ">": op.gt,
    ">=": op.ge,
}


@settings(max_examples=examples(50), deadline=None)
@given(
    column=st.lists(st.none() | st.integers(-128, 127), max_size=20),
    operator=st.sampled_from(sorted(PYTHON)),
    value=st.integers(-(2**31), 2**31) | st.floats(allow_nan=False, width=32),
)
def test_comparing_numbers_is_python_comparing_numbers(
    column: list[int | None], operator: str, value: float
) -> None:
    """Whatever the widths: a value outside the column's type compares as it should."""
    rows = pl.DataFrame({"n": column}, schema={"n": pl.Int8})

    found = rows.filter(expression(Filter("n", operator, value), SCHEMA))["n"].to_list()

    assert found == [n for n in column if n is not None and PYTHON[operator](n, value)]
