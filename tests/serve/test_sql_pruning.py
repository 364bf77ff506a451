"""Leaving out files never changes an answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from datafusion import SessionContext
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake import delta
from neuralake.serve.guard import plan
from neuralake.serve.messages import Source
from neuralake.serve.session import Session

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("n", pa.int32()),
        ("x", pa.float64()),
        ("amount", pa.decimal128(9, 2)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("place", pa.string()),
        ("zone", pa.int16()),
    ]
)
START = datetime(2024, 1, 1, tzinfo=UTC)


def files() -> Iterator[pa.Table]:
    """Eight commits of few rows each, with nulls, NaN, and times within one millisecond."""
    for number in range(8):
        rows = [
            {
                "id": number * 10 + index,
                "n": None if number == 3 else number * 5 + index,
                "x": float("nan") if number == 4 and index else float(number),
                "amount": Decimal(number) + Decimal("0.01") * index,
                "day": date(2024, 1, 1 + number) if index else None,
                "at": START + timedelta(days=number, microseconds=999 * index),
                "place": [None, "a", "b c", "ü/="][number % 4],
                "zone": number // 4 if number != 7 else None,
            }
            for index in range(3)
        ]
        yield pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("pruned") / "t")
    delta.create_table(uri, SCHEMA, partition_by=["place", "zone"])
    log = delta.TableLog.open(uri)
    for rows in files():
        log.append(rows)
    return uri


@pytest.fixture(scope="module")
def whole() -> SessionContext:
    """The same rows in memory: nothing there can be left out."""
    context = SessionContext()
    context.from_arrow(pa.concat_tables(files()), name="t")
    return context


COLUMNS = {
    "n": st.integers(-2, 45).map(str),
    "x": st.sampled_from(["0.0", "3.5", "7.0", "'NaN'::double"]),
    "amount": st.sampled_from(["0", "3.01", "7.02", "9"]),
    "day": st.integers(1, 9).map(lambda day: f"DATE '2024-01-0{day}'"),
    "at": st.tuples(st.integers(1, 9), st.sampled_from(["000000", "000999", "001998"])).map(
        lambda at: f"TIMESTAMP '2024-01-0{at[0]}T00:00:00.{at[1]}Z'"
    ),
    "place": st.sampled_from(["'a'", "'b c'", "'ü/='", "'none'"]),
    "zone": st.sampled_from(["0", "1", "2"]),
}


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    if depth and draw(st.booleans()):
        left, right = draw(conditions(depth - 1)), draw(conditions(depth - 1))
        return draw(st.sampled_from([f"({left} AND {right})", f"({left} OR {right})"]))
    column = draw(st.sampled_from(sorted(COLUMNS)))
    one, two = draw(COLUMNS[column]), draw(COLUMNS[column])
    return draw(
        st.sampled_from(
            [
                *(f"{column} {mark} {one}" for mark in ("=", "!=", "<", "<=", ">", ">=")),
                f"{one} < {column}",
                f"NOT {column} = {one}",
                f"{column} BETWEEN {one} AND {two}",
                f"{column} IN ({one}, {two}, {one}, {two}, {one})",
                f"{column} NOT IN ({one}, {two})",
                f"{column} IS NULL",
                f"{column} IS NOT NULL",
                f"({column} IS NOT DISTINCT FROM {one})",
                f"({column} = {one}) IS NOT TRUE",
                f"coalesce({column}, {two}) = {two}",
            ]
        )
    )


def ids(session_uri: str, sql: str) -> list[int]:
    session = Session(
        {"lab": {"t": Source(kind="delta", uri=session_uri)}},
        function_rows=lambda *_: pa.table({}),
        memory_bytes_max=2**29,
        spill_folder=Path(session_uri).parent,
    )
    frame = session.plan(lambda context: plan(context, sql))
    return [row for batch in frame.collect() for row in batch.column(0).to_pylist()]


@settings(max_examples=examples(37), deadline=None)
@given(where=conditions())
def test_any_condition_finds_the_same_rows_as_in_memory(
    uri: str, whole: SessionContext, where: str
) -> None:
    sql = f"SELECT id FROM t WHERE {where} ORDER BY id"  # noqa: S608 our own text

    wanted = [row for batch in whole.sql(sql).collect() for row in batch.column(0).to_pylist()]
    assert ids(uri, sql) == wanted


@pytest.mark.parametrize(
    "sql",
    [
        # Two scans of one table with filters of their own: each gets what it needs.
        "SELECT a.id FROM t a JOIN t b ON a.id = b.id - 10 WHERE a.n < 3 AND b.n > 4 ORDER BY 1",
        "SELECT a.id FROM lab.t a JOIN neuralake.lab.t b ON a.id = b.id - 10 WHERE b.n > 9 "
        "AND a.zone = 0 ORDER BY 1",
        # Scans inside of expressions.
        "SELECT (SELECT count(*) FROM t) FROM t WHERE n = 1",
        "SELECT id FROM t WHERE n = 1 OR id IN (SELECT id + 10 FROM t WHERE place = 'a') "
        "ORDER BY 1",
        "SELECT id FROM t WHERE zone = 0 AND EXISTS (SELECT 1 FROM t u WHERE u.id = t.id + 40) "
        "ORDER BY 1",
        # The filter is for one side only.
        "SELECT a.id FROM t a LEFT JOIN t b ON a.id = b.id AND b.zone = 1 WHERE a.n < 7 ORDER BY 1",
        "SELECT id FROM t WHERE zone = 0 UNION ALL SELECT id FROM t WHERE place = 'a' ORDER BY 1",
        "WITH RECURSIVE r AS (SELECT id FROM t WHERE id = 1 UNION ALL SELECT t.id FROM t JOIN r "
        "ON t.id = r.id + 10) SELECT id FROM r ORDER BY 1",
        "SELECT id FROM t WHERE false",
    ],
)
def test_scans_of_one_table_do_not_take_each_others_files(
    uri: str, whole: SessionContext, sql: str
) -> None:
    plain = sql.replace("neuralake.lab.", "").replace("lab.", "")

    wanted = [row for batch in whole.sql(plain).collect() for row in batch.column(0).to_pylist()]
    assert ids(uri, sql) == wanted
