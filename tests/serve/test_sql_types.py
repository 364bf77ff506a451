"""Every column type comes out of every format with the value that went in."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import struct
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sql_lake import EVERY_TYPE, ROWS, Lake, every_row

from neuralake.serve.encode import encoder
from neuralake.serve.plain import plain_batch, plain_schema

SQL = "SELECT * FROM lab.every ORDER BY id"
COLUMNS = EVERY_TYPE.names


def ask(url: str, accept: str, sql: str = SQL) -> httpx.Response:
    return httpx.post(url, json={"sql": sql}, headers={"Accept": accept}, timeout=30)


def test_arrow_has_the_declared_types_and_the_frames_values(url: str, lake: Lake) -> None:
    answer = ask(url, "application/vnd.apache.arrow.stream")

    rows = pa.ipc.open_stream(answer.content).read_all()
    assert rows.schema.names == COLUMNS
    assert rows.schema.types == EVERY_TYPE.types
    frame = lake.catalog.db("lab").table("every").sort("id").collect()
    assert pl.DataFrame(pl.from_arrow(rows)).equals(frame)


def test_json_spells_every_value_so_that_it_can_be_read_back(url: str) -> None:
    answer = ask(url, "application/json").json()

    names = [column["name"] for column in answer["columns"]]
    first, second, third = (dict(zip(names, row, strict=True)) for row in answer["rows"])
    assert {name: first[name] for name in COLUMNS} == {
        "id": 0,
        "i8": -128,
        "i16": 32767,
        "i64": "-9223372036854775808",
        "f32": struct.unpack("f", struct.pack("f", 0.1))[0],
        "f64": 1e300,
        "dec": "-1234567890123456789012345678.0123456789",
        "text": 'a "quoted", text\r\nof two lines',
        "raw": "AP8Q",
        "flag": True,
        "day": "1969-12-31",
        "clock": "1960-01-02T03:04:05.000006",
        "instant": "2024-02-29T23:59:59.999999Z",
        "items": [1, None, "1152921504606846976"],
        "nested": {"a": "NaN", "b": ["x", None, ""]},
        "place": "a b/c=ü",
        "on": "2024-01-01",
    }
    assert second["i64"] == 2**53 - 1
    assert (second["f32"], second["f64"]) == ("NaN", "-Infinity")
    assert Decimal(second["dec"]) == 0
    assert (second["text"], second["raw"], second["items"]) == ("", "", [])
    assert (second["clock"], second["instant"]) == (
        "9999-12-31T00:00:00.000000",
        "0001-01-01T00:00:00.000000Z",
    )
    assert second["nested"] == {"a": None, "b": None}
    assert third == dict.fromkeys(names) | {"id": 2}
    assert answer["truncated"] is False
    assert answer["versions"] == {"lab.every": 1}
    assert answer["elapsed_ms"] > 0


def test_json_names_the_types(url: str) -> None:
    answer = ask(url, "application/json").json()

    types = {column["name"]: column["type"] for column in answer["columns"]}
    assert types["dec"] == "decimal128(38, 10)"
    assert types["instant"] == "timestamp[us, tz=UTC]"
    assert types["text"] == "string"
    assert types["place"] == "string"


def test_csv_is_rfc_4180_and_tells_null_from_empty(url: str) -> None:
    answer = ask(url, "text/csv")

    header, *lines = list(csv.reader(io.StringIO(answer.text, newline="")))
    first, second, third = (dict(zip(header, line, strict=True)) for line in lines)
    assert first["text"] == ROWS[0]["text"]
    assert first["i64"] == "-9223372036854775808"
    assert first["dec"] == "-1234567890123456789012345678.0123456789"
    assert first["raw"] == "AP8Q"
    assert first["flag"] == "true"
    assert first["instant"] == "2024-02-29T23:59:59.999999Z"
    assert json.loads(first["nested"]) == {"a": "NaN", "b": ["x", None, ""]}
    assert json.loads(first["items"]) == [1, None, "1152921504606846976"]
    assert (second["f32"], second["f64"]) == ("NaN", "-Infinity")
    assert third["text"] == ""
    assert answer.text.endswith("\r\n")
    # The parser above cannot tell them apart; the text does.
    alone = ask(url, "text/csv", "SELECT text FROM lab.every WHERE id > 0 ORDER BY id").text
    assert alone == 'text\r\n""\r\n\r\n'


@pytest.mark.parametrize("sql", ["SELECT * FROM lab.empty", "SELECT * FROM lab.unwritten"])
def test_a_table_without_rows_still_has_its_columns(url: str, sql: str) -> None:
    """`unwritten` is a stream table that nobody has created yet."""
    rows = pa.ipc.open_stream(ask(url, "application/vnd.apache.arrow.stream", sql).content)
    found = rows.read_all()
    assert found.num_rows == 0
    assert {field.name: field.type for field in found.schema} == {
        field.name: field.type for field in EVERY_TYPE
    }
    assert ask(url, "application/json", sql).json()["rows"] == []
    assert sorted(ask(url, "text/csv", sql).text.rstrip("\r\n").split(",")) == sorted(COLUMNS)


VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(width=64),
    pa.float32(): st.floats(width=32),
    pa.string(): st.text(),
    pa.binary(): st.binary(),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.decimal128(38, 6): st.decimals(-(10**20), 10**20, places=6),
}


def columns() -> st.SearchStrategy[tuple[pa.DataType, list[Any]]]:
    def of(kind: pa.DataType) -> st.SearchStrategy[tuple[pa.DataType, list[Any]]]:
        value = st.none() | VALUES[kind]
        flat = st.tuples(st.just(kind), st.lists(value, max_size=8))
        listed = st.lists(st.none() | st.lists(value, max_size=3), max_size=8)
        nested = st.tuples(st.just(pa.list_(kind)), listed)
        struct_kind = pa.struct([("a", kind), ("b", pa.list_(kind))])
        row = st.none() | st.fixed_dictionaries({"a": value, "b": st.lists(value, max_size=2)})
        return flat | nested | st.tuples(st.just(struct_kind), st.lists(row, max_size=8))

    return st.sampled_from(list(VALUES)).flatmap(of)


def read_back(value: Any, kind: pa.DataType) -> Any:
    """What a reader of our JSON does, by the column's type."""
    types = pa.types
    if value is None:
        return None
    if types.is_list(kind):
        return [read_back(item, kind.value_type) for item in value]
    if types.is_struct(kind):
        return {field.name: read_back(value[field.name], field.type) for field in kind}
    if types.is_integer(kind):
        return int(value)
    if types.is_floating(kind):
        return float(value)
    if types.is_decimal(kind):
        return Decimal(value)
    if types.is_binary(kind):
        return base64.b64decode(value)
    if types.is_date(kind):
        return date.fromisoformat(value)
    if types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    return value


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        both = math.isnan(found) and math.isnan(wanted)
        return both or struct.pack("d", found) == struct.pack("d", wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, dict):
        return all(same(found[name], wanted[name]) for name in wanted)
    return bool(found == wanted)


@settings(max_examples=examples(37), deadline=None)
@given(columns(), st.integers(0, 3), st.integers(0, 3))
def test_any_value_reads_back_from_json(
    column: tuple[pa.DataType, list[Any]], skipped: int, dropped: int
) -> None:
    """Also of a slice: its offsets do not begin at 0."""
    kind, values = column
    array = pa.array(values, kind)
    array = array.slice(skipped, max(0, len(array) - skipped - dropped))
    batch = pa.RecordBatch.from_arrays([array], ["c"])

    form = encoder("json")
    text = form.start(batch.schema) + form.batch(batch) + form.end({"truncated": False})

    rows = json.loads(text)["rows"]
    assert same([read_back(row[0], kind) for row in rows], array.to_pylist())


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.integers(-(2**63), 2**63 - 1))))
def test_any_text_and_integer_reads_back_from_csv(
    rows: list[tuple[str | None, int | None]],
) -> None:
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([text for text, _ in rows], pa.string()),
            pa.array([number for _, number in rows], pa.int64()),
        ],
        ["te,xt", "n"],
    )

    form = encoder("csv")
    text = (form.start(batch.schema) + form.batch(batch) + form.end({})).decode()

    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert lines[0] == ["te,xt", "n"]
    assert lines[1:] == [
        [found or "", "" if number is None else str(number)] for found, number in rows
    ]


def test_layout_variants_become_the_plain_type() -> None:
    views = pa.RecordBatch.from_arrays(
        [
            pa.array(["x", None], pa.string_view()),
            pa.array([[b"y"], None], pa.list_(pa.binary_view())),
            pa.array(["z", "z"]).dictionary_encode(),
            pa.array([{"a": "v"}, None], pa.struct([("a", pa.large_string())])),
        ],
        ["a", "b", "c", "d"],
    )

    schema = plain_schema(views.schema)

    assert schema.types == [
        pa.string(),
        pa.list_(pa.binary()),
        pa.string(),
        pa.struct([("a", pa.string())]),
    ]
    assert plain_batch(views, schema).to_pylist() == views.to_pylist()


def test_the_lake_of_these_tests_has_every_type() -> None:
    assert every_row().schema == EVERY_TYPE
