"""A condition, settled by partition and statistics, never misses a row that a frame would show."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.batch.where import EVERY_ROW, Where
from neuralake.delta.bounds import Statistics, partition_value
from neuralake.delta.parquet import Encoder
from neuralake.delta.partition import serialise
from neuralake.errors import UnknownName, UsageError
from neuralake.filters import Filter, Filters, expression

UTC = datetime.UTC
TIMES = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(1970, 1, 1, 0, 0, 1))
NEAR = [-0.0, 0.0, 0.1, math.nan, math.inf, -math.inf, 1.5]
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-2, 2),
    pa.int64(): st.integers(-2, 2) | st.integers(2**53 - 1, 2**53 + 2),
    pa.float32(): st.sampled_from(NEAR) | st.floats(width=32),
    pa.float64(): st.sampled_from(NEAR) | st.floats(),
    pa.decimal128(5, 2): st.decimals(-2, 2, places=2),
    pa.decimal128(38, 19): st.decimals(-2, 2, places=19),
    pa.string(): st.text(max_size=2)
    | st.builds(str.__add__, st.just("x" * 31), st.text("ab\U0010ffff\ud7ff", max_size=4)),
    pa.date32(): st.dates(datetime.date(2024, 1, 1), datetime.date(2024, 1, 4)),
    pa.bool_(): st.booleans(),
    pa.timestamp("us", tz="UTC"): TIMES.map(lambda time: time.replace(tzinfo=UTC)),
    pa.timestamp("us"): TIMES,
}
OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"]


@st.composite
def files(draw: st.DrawFn) -> tuple[pa.DataType, list[Any], Filter]:
    """A type, the values of one file, and a filter on them."""
    kind = draw(st.sampled_from(list(VALUES)))
    values = draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=4))
    known = [value for value in values if value is not None]
    literal = st.sampled_from(known) | VALUES[kind] if known else VALUES[kind]
    operator = draw(st.sampled_from(OPERATORS))
    if operator.startswith("is"):
        return kind, values, Filter("x", operator)
    if operator in ("in", "not in"):
        return kind, values, Filter("x", operator, draw(st.lists(literal, max_size=3)))
    return kind, values, Filter("x", operator, draw(literal))


@settings(max_examples=examples(100), deadline=None)
@given(case=files())
def test_statistics_rule_out_no_file_with_a_row_that_a_frame_shows(
    case: tuple[pa.DataType, list[Any], Filter],
) -> None:
    kind, values, condition = case
    schema = pa.schema([("x", kind)])
    rows = pa.table({"x": pa.array(values, kind)})
    encoded, _ = Encoder(schema).encode(rows)

    shown = pl.DataFrame(rows).filter(expression(condition, schema)).height

    assert Where(condition, schema, (), "t").may_hold({}, encoded.stats) or not shown


@settings(max_examples=examples(50), deadline=None)
@given(case=files())
def test_a_mask_is_what_a_frame_shows_and_null_is_not(
    case: tuple[pa.DataType, list[Any], Filter],
) -> None:
    kind, values, condition = case
    schema = pa.schema([("i", pa.int64()), ("x", kind)])
    rows = pa.table({"i": range(len(values)), "x": pa.array(values, kind)}, schema)
    where = Where(condition, schema, (), "t")

    mask = where.mask(rows, where.conditions)

    assert mask.null_count == 0
    shown = pl.DataFrame(rows).filter(expression(condition, schema))["i"].to_list()
    assert rows.filter(mask)["i"].to_pylist() == shown


LONG_AGO = Filter("t", "<", "1924-01-01T00:00:00Z")
PARTITIONED = {kind: VALUES[kind] for kind in VALUES if not pa.types.is_floating(kind)}
for unfit in (pa.decimal128(5, 2), pa.decimal128(38, 19)):
    del PARTITIONED[unfit]


@settings(max_examples=examples(50), deadline=None)
@given(data=st.data())
def test_a_partition_settles_its_part_of_a_condition_as_its_rows_would(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(PARTITIONED)))
    value = data.draw(st.none() | PARTITIONED[kind])
    value = value or None if kind == pa.string() else value  # The empty text is null.
    literal = data.draw(PARTITIONED[kind])
    numbers = data.draw(st.lists(st.none() | st.integers(0, 2), max_size=4))
    own = data.draw(st.sampled_from([Filter("p", "=", literal), Filter("p", "is null")]))
    other = Filter("x", ">", 0)
    shapes: list[Filters] = [own, [own, other], [[own], [other]], [[own, other], [own]]]
    shape = data.draw(st.sampled_from(shapes))
    schema = pa.schema([("p", kind), ("x", pa.int64())])
    rows = pa.table({"p": pa.array([value] * len(numbers), kind), "x": numbers}, schema)
    where = Where(shape, schema, ("p",), "t")

    rest = where.within({"p": serialise(value)})

    shown = pl.DataFrame(rows).filter(expression(shape, schema))["x"].to_list()
    if rest is None:
        assert shown == []
    elif rest == EVERY_ROW:
        assert shown == numbers
    else:
        assert rows.drop_columns(["p"]).filter(where.mask(rows, rest))["x"].to_pylist() == shown


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (pa.timestamp("us", tz="UTC"), "2024-01-01 02:00:00", datetime.datetime(2024, 1, 1, 2)),
        (pa.timestamp("us", tz="UTC"), "2024-01-01T02:00:00.5Z", None),
        (pa.bool_(), "TRUE", True),
        (pa.int16(), "-7", -7),
        (pa.string(), "", None),
        (pa.date32(), "2024-02-29", datetime.date(2024, 2, 29)),
    ],
)
def test_partition_values_are_read_as_any_engine_writes_them(
    kind: pa.DataType, text: str, value: Any
) -> None:
    if value is None and text:
        value = datetime.datetime(2024, 1, 1, 2, 0, 0, 500000)
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=UTC)

    assert partition_value(text, pa.field("p", kind)).to_pylist() == [value]


@pytest.mark.parametrize(
    ("stats", "condition", "may"),
    [
        # Another engine's float64 for a decimal, wall clocks cut to milliseconds, cut texts.
        ('{"minValues":{"d":0.1},"maxValues":{"d":0.1}}', Filter("d", "=", Decimal("0.1")), True),
        ('{"minValues":{"d":0.1},"maxValues":{"d":0.1}}', Filter("d", "=", Decimal("0.2")), False),
        (
            '{"minValues":{"t":"2024-01-01T00:00:00.000Z"},"maxValues":{"t":"2024-01-01T00:00:00.000Z"}}',
            Filter("t", ">", "2024-01-01T00:00:00.000900+00:00"),
            True,
        ),
        (
            '{"minValues":{"s":"' + "a" * 32 + '"},"maxValues":{"s":"' + "a" * 32 + '"}}',
            Filter("s", "=", "a" * 33),
            True,
        ),
        # NaN is above every number, and engines leave it out of their bounds.
        ('{"minValues":{"f":1.0},"maxValues":{"f":2.0}}', Filter("f", ">", 5), True),
        ('{"minValues":{"f":1.0},"maxValues":{"f":2.0}}', Filter("f", "<", 0.5), False),
        # A file of nulls, and one without.
        ('{"numRecords":2,"nullCount":{"s":2}}', Filter("s", "!=", "x"), False),
        ('{"numRecords":2,"nullCount":{"s":0}}', Filter("s", "is null"), False),
        # What is damaged, missing, or of another type tells nothing.
        ("{", Filter("s", "=", "x"), True),
        ("null", Filter("s", "=", "x"), True),
        (None, Filter("s", "=", "x"), True),
        ('{"minValues":[],"maxValues":{}}', Filter("s", "=", "x"), True),
        ('{"minValues":{"s":1},"maxValues":{"s":1}}', Filter("s", "=", "x"), True),
        ('{"minValues":{"t":"yesterday"},"maxValues":{"t":"now"}}', LONG_AGO, True),
    ],
)  # fmt: skip
def test_statistics_of_other_engines_count_for_what_all_engines_mean(
    stats: str | None, condition: Filter, may: bool
) -> None:
    schema = pa.schema(
        [
            ("d", pa.decimal128(38, 19)),
            ("t", pa.timestamp("us", tz="UTC")),
            ("s", pa.string()),
            ("f", pa.float64()),
        ]
    )

    assert Where(condition, schema, (), "t").may_hold({}, stats) == may
    assert Statistics.of(stats, schema).may_hold(condition) == may


def test_a_condition_that_came_out_empty_is_not_taken_for_all() -> None:
    schema = pa.schema([("x", pa.int64())])

    with pytest.raises(UsageError, match="holds for every row"):
        Where([], schema, (), "t")
    with pytest.raises(UsageError, match="holds for every row"):
        Where([[Filter("x", "=", 1)], []], schema, (), "t")
    with pytest.raises(UnknownName, match="no column 'y'"):
        Where(Filter("y", "=", 1), schema, (), "t")
