"""A compacted file is the same rows to every engine, whoever wrote its parts.

DuckDB, Polars, pyarrow and delta-rs read it. What they skip by its statistics is compared with what
Python finds.
"""

from __future__ import annotations

import datetime
import io
import math
import operator
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from delta_tables import delete_rows, inline_vector, put_entry, read_all
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from every_type import COLUMNS, every_type
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import TableLog, chunks, compact_once, create_table, joining, pages, snapshot
from neuralake.delta.actions import Add

MIB = 2**20
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">=": operator.ge,
}


def duck(sql: str, *values: object) -> pa.Table:
    with duckdb.connect() as session:
        session.execute("SET TimeZone = 'UTC'")
        return session.sql(sql, params=list(values)).to_arrow_table()


def one_file(uri: str) -> str:
    (file,) = snapshot(uri).files
    return str(Path(uri, file.path))


def facts(rows: pa.Table, names: Sequence[str]) -> list[str]:
    """Rows as text that tells NaN, -0.0 and None apart."""
    return [repr(row) for row in rows.select(names).to_pylist()]


# How each engine reads a table whose rows are in files that the log names.


def by_us(uri: str) -> pa.Table:
    return read_all(uri).sort_by("id")


def by_duckdb(uri: str) -> pa.Table:
    paths = [str(Path(uri, file.path)) for file in snapshot(uri).files]
    return duck("SELECT * FROM read_parquet(?) ORDER BY id", paths)


def by_pyarrow(uri: str) -> pa.Table:
    files = [pq.read_table(Path(uri, file.path)) for file in snapshot(uri).files]
    return pa.concat_tables(files, promote_options="permissive").sort_by("id")


def by_polars(uri: str) -> pa.Table:
    return pl.scan_delta(uri).sort("id").collect().to_arrow()


def by_delta_rs(uri: str) -> pa.Table:
    session = QueryBuilder().register("t", DeltaTable(uri))
    return pa.table(session.execute("SELECT * FROM t ORDER BY id").read_all())


ENGINES = [by_duckdb, by_pyarrow, by_polars, by_delta_rs]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """Every type, spliced from pages of ours: a file each, some columns of them null throughout."""
    uri = str(tmp_path_factory.mktemp("types") / "table")
    rows = every_type()
    create_table(uri, rows.schema)
    log = TableLog.open(uri)
    for place in (0, 3, 1, 2):
        log.append(rows.slice(place, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "_COPIED_SHARE_MIN", 0.0001)
        patch.setattr(chunks, "_LIGHT_PAGE_VALUES_MIN", 1)
        patch.setattr(pages, "_ROWS_MAX", 2)
        compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert pq.read_metadata(one_file(uri)).num_row_groups == 2, "so that one can be skipped"
    return uri, rows.to_pylist()


@pytest.mark.parametrize("read", ENGINES)
def test_every_type_is_read_from_pages_laid_end_to_end(
    everything: tuple[str, list[dict[str, Any]]], read: Callable[[str], pa.Table]
) -> None:
    uri, rows = everything

    assert facts(read(uri), [*rows[0]]) == [repr(row) for row in rows]


@pytest.mark.parametrize(
    "name", [n for n, (kind, _) in COLUMNS.items() if not pa.types.is_nested(kind)]
)
def test_duckdb_skips_nothing_that_it_should_find(
    everything: tuple[str, list[dict[str, Any]]], name: str
) -> None:
    """By the bounds of row groups: at the least value, the greatest, between, and for null."""
    uri, rows = everything
    path, values = one_file(uri), [row[name] for row in rows if row[name] is not None]
    # To DuckDB NaN is equal to itself, and above every number.
    order = [math.inf if value != value else value for value in values]

    for word, holds in OPERATORS.items():
        for asked in values:
            if asked != asked:
                continue
            asking = f'"{name}" {word} ?::{_duck_type(name)}'
            sql = f"SELECT id FROM read_parquet(?) WHERE {asking}"  # noqa: S608 ours
            found = duck(sql, path, asked).num_rows
            assert found == sum(holds(value, asked) for value in order), (word, asked)
    for word, count in (("NULL", 1), ("NOT NULL", 3)):
        sql = f'SELECT id FROM read_parquet(?) WHERE "{name}" IS {word}'  # noqa: S608 ours
        assert duck(sql, path).num_rows == count


def _duck_type(name: str) -> str:
    """What a value must be cast to, to be compared as the column is."""
    kind = COLUMNS[name][0]
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return {
        "float32": "FLOAT",
        "binary": "BLOB",
        "timestamp": "TIMESTAMPTZ",
        "timestamp_ntz": "TIMESTAMP",
    }.get(name, "VARCHAR" if name == "string" else "BOOLEAN" if name == "bool" else _plain(kind))


def _plain(kind: pa.DataType) -> str:
    return "DATE" if pa.types.is_date(kind) else "DOUBLE" if kind == pa.float64() else "BIGINT"


# Files of any writer.

INNER = pa.struct([pa.field("a", pa.int32(), nullable=False), ("b", pa.list_(pa.int64()))])
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("number", pa.int16()),
        ("value", pa.float64()),
        ("price", pa.decimal128(12, 2)),
        ("at", pa.timestamp("us", tz="UTC")),
        ("name", pa.string()),
        ("inner", INNER),
        ("deep", pa.struct([("inner", INNER)])),
        ("tags", pa.list_(pa.string())),
    ]
)
FILTERED = {
    "id": "BIGINT",
    "number": "BIGINT",
    "price": "DECIMAL(12, 2)",
    "at": "TIMESTAMPTZ",
    "name": "VARCHAR",
}
INNERS = st.none() | st.fixed_dictionaries(
    {"a": st.integers(-9, 9), "b": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3)}
)
ROW = st.fixed_dictionaries(
    {
        "number": st.none() | st.integers(-(2**15), 2**15 - 1),
        "value": st.none() | st.floats(),
        # Of more digits delta-rs rounds the bounds in the log.
        "price": st.none() | st.decimals(-(10**9), 10**9, places=2),
        "at": st.none() | st.datetimes(timezones=st.just(datetime.UTC)),
        "name": st.none()
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
        "inner": INNERS,
        "deep": st.none() | st.fixed_dictionaries({"inner": INNERS}),
        "tags": st.none() | st.lists(st.none() | st.sampled_from(["x", "yy", ""]), max_size=3),
    }
)
PARTS = st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=2, max_size=5)


@st.composite
def arrow_files(draw: st.DrawFn) -> Callable[[pa.Table], bytes]:
    options = {
        "compression": draw(st.sampled_from(["zstd", "snappy", "gzip", "none"])),
        "use_dictionary": draw(st.booleans()),
        "dictionary_pagesize_limit": draw(st.sampled_from([8, MIB])),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "data_page_size": draw(st.sampled_from([16, MIB])),
        "write_batch_size": draw(st.sampled_from([1, 1024])),
        "row_group_size": draw(st.sampled_from([2, MIB])),
        "write_page_index": draw(st.booleans()),
        "write_statistics": draw(st.booleans()),
        "store_schema": draw(st.booleans()),
    }

    def write(rows: pa.Table) -> bytes:
        sink = io.BytesIO()
        pq.write_table(rows, sink, **options)
        return sink.getvalue()

    return write


@st.composite
def polars_files(draw: st.DrawFn) -> Callable[[pa.Table], bytes]:
    size = draw(st.sampled_from([2, None]))
    statistics = draw(st.booleans())

    def write(rows: pa.Table) -> bytes:
        sink = io.BytesIO()
        pl.DataFrame(rows).write_parquet(sink, row_group_size=size, statistics=statistics)
        return sink.getvalue()

    return write


@st.composite
def duckdb_files(draw: st.DrawFn) -> Callable[[pa.Table], bytes]:
    version = draw(st.sampled_from(["V1", "V2"]))

    def write(rows: pa.Table) -> bytes:
        with tempfile.TemporaryDirectory() as folder, duckdb.connect() as session:
            path = Path(folder, "f.parquet")
            session.register("given", rows)
            session.execute(f"COPY given TO '{path}' (FORMAT parquet, PARQUET_VERSION {version})")
            return path.read_bytes()

    return write


WRITERS = st.sampled_from(["ours", "delta-rs"]) | arrow_files() | polars_files() | duckdb_files()


def append(uri: str, rows: pa.Table, writer: str | Callable[[pa.Table], bytes]) -> None:
    if writer == "ours":
        TableLog.open(uri).append(rows)
        return
    if writer == "delta-rs":
        write_deltalake(uri, rows, mode="append")
        return
    assert callable(writer)
    version, data = snapshot(uri).version + 1, writer(rows)
    Path(uri, f"{version}.parquet").write_bytes(data)
    add = Add(
        path=f"{version}.parquet",
        partition_values={},
        size=len(data),
        modification_time=version,
        data_change=True,
        stats=f'{{"numRecords":{len(rows)}}}',
    )
    put_entry(uri, version, [add])


@settings(deadline=None, max_examples=examples(10))  # Machines are busy; time is not the claim.
@given(
    parts=PARTS,
    writers=st.lists(WRITERS, min_size=1, max_size=3),
    group_bytes=st.sampled_from([1, 2_000, 512 * 1024]),
    deleted=st.none() | st.integers(0, 4),
)
def test_files_of_any_writers_become_one_with_the_same_rows(
    parts: list[list[dict[str, Any]]],
    writers: list[str | Callable[[pa.Table], bytes]],
    group_bytes: int,
    deleted: int | None,
) -> None:
    """Copied, laid end to end, and encoded anew: as the drawn sizes have it."""
    with tempfile.TemporaryDirectory() as uri, pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "_GROUP_BYTES_MIN", group_bytes)
        patch.setattr(joining, "_COPIED_SHARE_MIN", 0.0001)
        patch.setattr(chunks, "_PAGE_VALUES_MIN", 1)
        patch.setattr(chunks, "_LIGHT_PAGE_VALUES_MIN", 1)
        properties = {} if deleted is None else {"delta.enableDeletionVectors": "true"}
        create_table(uri, SCHEMA, properties=properties)
        rows: list[dict[str, Any]] = []
        for place, part in enumerate(parts):
            numbered = [{"id": len(rows) + i, **row} for i, row in enumerate(part)]
            table = pa.Table.from_pylist(numbered, SCHEMA)
            append(uri, table, writers[place % len(writers)])
            rows += table.to_pylist()
        if deleted is not None:
            file = snapshot(uri).files[deleted % len(parts)]
            first = pq.read_table(Path(uri, file.path))["id"][0].as_py()
            delete_rows(uri, file, inline_vector([0]))
            rows = [row for row in rows if row["id"] != first]
        compact_once(uri, target_bytes=128 * MIB, files_min=2)
        if not rows:
            assert not snapshot(uri).files
            return

        wanted = [repr(row) for row in rows]
        for read in (by_us, *ENGINES):
            assert facts(read(uri), SCHEMA.names) == wanted, read.__name__
        check_filters(uri, rows)


def check_filters(uri: str, rows: Sequence[dict[str, Any]]) -> None:
    """At the bounds, by each engine that skips by them."""
    data, frame = ds.dataset(one_file(uri)), pl.scan_delta(uri)
    for name, kind in FILTERED.items():
        values = [row[name] for row in rows if row[name] is not None]
        if not values:
            continue
        for word, asked in (("=", min(values)), (">=", max(values))):
            holds = OPERATORS[word]
            wanted = sum(holds(value, asked) for value in values)
            literal = pa.scalar(asked, SCHEMA.field(name).type)
            assert data.count_rows(filter=holds(ds.field(name), literal)) == wanted, (name, asked)
            found = frame.filter(holds(pl.col(name), asked)).select(pl.len()).collect()
            assert found.item() == wanted, (name, asked)
            asking = f'"{name}" {word} ?::{kind}'
            sql = f"SELECT id FROM read_parquet(?) WHERE {asking}"  # noqa: S608 ours
            assert duck(sql, one_file(uri), asked).num_rows == wanted, (name, asked)
