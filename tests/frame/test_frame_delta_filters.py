"""Files are left out by partitions and statistics, and no answer changes with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from neuralake.delta import TableLog, create_table
from neuralake.frame import scan_delta
from neuralake.frame.predicate import arrow_predicate

SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("day", pa.date32()),
        ("n", pa.int32()),
        ("x", pa.float64()),
        ("t", pa.timestamp("us", tz="UTC")),
        ("d", pa.decimal128(6, 2)),
        ("s", pa.string()),
        ("b", pa.bool_()),
    ]
)
T0 = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: dict[str, list[object]] = {
    "site": ["a", "b'", 'c"/\\', None],
    "day": [date(2026, 1, 1), date(1969, 12, 31), None],
    "n": [-3, 0, 7, None],
    "x": [-1.5, 0.0, 2.5, float("nan"), float("inf"), None],
    "t": [T0, T0 + timedelta(microseconds=1), T0 - timedelta(days=9999), None],
    "d": [Decimal("0.01"), Decimal("-9.99"), Decimal("1.00"), None],
    "s": ["", "a" * 40, "a" * 40 + "b", "ü", None],
    "b": [True, False, None],
}


def rows(seed: int) -> pa.Table:
    """Three rows, of few different values, so that files differ."""
    columns = [
        [options[(seed * (i + 3) // 2 + row * (i % 2)) % len(options)] for row in range(3)]
        for i, options in enumerate(VALUES.values())
    ]
    return pa.table(columns, schema=SCHEMA)


@pytest.fixture(scope="module", params=["none", "name"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Read by Polars itself, and by our decoder."""
    uri = str(tmp_path_factory.mktemp("filters") / "t")
    mode = {} if request.param == "none" else {"delta.columnMapping.mode": "name"}
    create_table(uri, SCHEMA, partition_by=["site", "day"], properties=mode)
    log = TableLog.open(uri)
    for seed in range(16):
        log.append(rows(seed))
    return uri


COMPARE: list[Callable[[pl.Expr, pl.Expr], pl.Expr]] = [
    pl.Expr.eq,
    pl.Expr.ne,
    pl.Expr.lt,
    pl.Expr.le,
    pl.Expr.gt,
    pl.Expr.ge,
    pl.Expr.eq_missing,
    pl.Expr.ne_missing,
]


@st.composite
def leaves(draw: st.DrawFn) -> pl.Expr:
    name = draw(st.sampled_from([*VALUES]))
    column = pl.col(name)
    kind = pl.Schema(SCHEMA)[name]
    known = [value for value in VALUES[name] if value is not None]
    match draw(st.sampled_from(["compare", "null", "in"])):
        case "null":
            return draw(st.sampled_from([column.is_null(), column.is_not_null()]))
        case "in":
            some = draw(st.lists(st.sampled_from(known), max_size=2))
            return column.is_in(pl.Series(some, dtype=kind).implode())
        case _:
            value = pl.lit(draw(st.sampled_from(known)), dtype=kind)
            return draw(st.sampled_from(COMPARE))(column, value)


EXPRESSIONS = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        inner.map(lambda each: ~each),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: reduce(pl.Expr.and_, each)),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: reduce(pl.Expr.or_, each)),
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=examples(50))
@given(expression=EXPRESSIONS)
def test_any_filter_keeps_the_rows_that_it_keeps_in_memory(uri: str, expression: pl.Expr) -> None:
    everything = pl.concat(pl.DataFrame(rows(seed)) for seed in range(16))

    found = scan_delta(uri, SCHEMA).filter(expression).collect()

    assert_frame_equal(found, everything.filter(expression), check_row_order=False)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "pa.compute.field('a').__class__",
        "(lambda: 1)()",
        "[x for x in [1]]",
        "pa.compute.field",
        "pa.compute.field('a') == ",
        "1",
        "open('/etc/passwd')",
        "pa.fs",
    ],
)
def test_only_the_few_words_of_a_filter_are_evaluated(text: str) -> None:
    assert arrow_predicate(text) is None


def test_a_filter_that_is_understood_leaves_files_unopened(tmp_path: Path) -> None:
    """Also where our own decoder reads: the file of the other partition is gone."""
    uri = str(tmp_path)
    schema = pa.schema([("site", pa.string()), ("n", pa.int32())])
    mode = {"delta.columnMapping.mode": "id"}
    create_table(uri, schema, partition_by=["site"], properties=mode)
    TableLog.open(uri).append(pa.table([["a", "b"], [1, 2]], schema=schema))
    next(path for path in tmp_path.rglob("*.parquet") if path.parent.name.endswith("=b")).unlink()

    assert scan_delta(uri, schema).filter(site="a").collect().rows() == [("a", 1)]
