"""CSV, NDJSON and Parquet files give the rows that the HTTP API makes of the same values."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuralake.errors import InvalidRows, SchemaMismatch, UnsupportedMedia, UsageError
from neuralake.ingest.file_rows import read_tables
from neuralake.records.rows import RowReader

SCHEMA = pa.schema(
    [
        ("id", pa.int32()),
        ("rate", pa.float64()),
        ("small", pa.float32()),
        ("price", pa.decimal128(7, 2)),
        ("at", pa.timestamp("us", tz="UTC")),
        ("local", pa.timestamp("us")),
        ("day", pa.date32()),
        ("ok", pa.bool_()),
        ("text", pa.string()),
        ("raw", pa.binary()),
        ("list", pa.list_(pa.field("element", pa.int8()))),
    ]
)
ROW = {
    "id": 7,
    "rate": 0.1,
    "small": 0.5,
    "price": "12.50",
    "at": "2026-01-02T03:04:05+01:00",
    "local": "2026-01-02 03:04",
    "day": "2026-01-02",
    "ok": True,
    "text": "a, b",
    "raw": "YWI=",
    "list": [1, None],
}
CSV_HEAD = ",".join(SCHEMA.names) + "\n"
CSV_ROW = (
    '7,0.1,0.5,12.50,2026-01-02T03:04:05+01:00,2026-01-02 03:04,2026-01-02,True,"a, b",YWI=,'
    '"[1,null]"\n'
)


def rows_of(path: Path, schema: pa.Schema = SCHEMA, **options: object) -> pa.Table:
    tables = read_tables(path, schema, name="t", **options)  # type: ignore[arg-type]  # on purpose
    return pa.concat_tables([schema.empty_table(), *(table for table, _ in tables)])


def expected(count: int) -> pa.Table:
    return RowReader(SCHEMA).texts([json.dumps(ROW)] * count)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_csv_ndjson_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", CSV_HEAD + CSV_ROW * 7)
    ndjson = write(tmp_path / "a.jsonl", (json.dumps(ROW) + "\n") * 7)
    parquet = tmp_path / "a.parquet"
    pq.write_table(expected(7), parquet)

    assert rows_of(table) == rows_of(ndjson) == rows_of(parquet) == expected(7)


def test_an_empty_csv_field_is_null_and_a_quoted_one_is_an_empty_text(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int8()), ("text", pa.string())])
    path = write(tmp_path / "a.csv", 'id,text\n,\n1,""\nNA,NA\n')

    found = rows_of(path, schema, null_values=("", "NA"))

    assert found.to_pylist() == [
        {"id": None, "text": None},
        {"id": 1, "text": ""},
        {"id": None, "text": None},
    ]


def test_columns_may_be_missing_and_in_another_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "text\tid\nx\t007\n")

    assert rows_of(path).select(["id", "text"]).to_pylist() == [{"id": 7, "text": "x"}]


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("id", "1.5", "expected an integer"),
        ("id", "0x1", "expected an integer"),
        ("id", "3000000000", "out of the range of int32"),
        ("rate", "1,5", "expected a number"),
        ("rate", "1e999", "out of the range of double"),
        ("small", "1e39", "out of the range of float"),
        ("price", "1.005", "more than 2 decimal places"),
        ("price", "123456.0", "out of the range"),
        ("at", "2026-01-02T03:04:05", "no time zone"),
        ("local", "2026-01-02T03:04:05Z", "has a time zone"),
        ("local", "2026-01-02", "expected a timestamp"),
        ("day", "02.01.2026", "expected a date"),
        ("ok", "1", "expected true or false"),
        ("raw", "YWI", "not base64"),
        ("list", "[1,300]", "out of the range of int8"),
        ("list", "1 2", "there is more"),
    ],
)
def test_a_csv_text_that_does_not_fit_is_named(
    tmp_path: Path, column: str, text: str, reason: str
) -> None:
    header = f"text,{column}"
    path = write(tmp_path / "a.csv", f'{header}\nx,\ny,"{text}"\n')

    with pytest.raises(InvalidRows, match=reason) as caught:
        rows_of(path)

    assert caught.value.row == 1
    assert caught.value.column.split("[")[0] == column


@pytest.mark.parametrize(
    "text", ["1e3", "+5", "-0", "007", "1.0", " 5 ", "NaN", "inf", "-Infinity"]
)
def test_numbers_as_other_programs_write_them_are_read(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.csv", f"rate\n{text}\n1.5\n")

    assert repr(rows_of(path)["rate"].to_pylist()) == repr([float(text), 1.5])


def test_an_unknown_column_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,prise\n1,2\n")

    with pytest.raises(SchemaMismatch, match="Did you mean 'price'"):
        rows_of(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "id,rate\n1\n"), ("a.csv", ""), ("a.parquet", "PAR1"), ("a.ndjson", "{")],
)
def test_a_broken_file_is_an_error_of_ours(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(UsageError):
        rows_of(write(tmp_path / name, content))


def test_an_unknown_ending_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match=r"\.parquet"):
        rows_of(write(tmp_path / "a.xlsx", ""))


@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.floats(), st.text(max_size=4))))
@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_python_writes_as_csv_comes_back(
    tmp_path: Path, values: list[tuple[int, float, str]]
) -> None:
    path = tmp_path / "a.csv"
    values = [(n, x, text.replace("\r", "").replace("\0", "")) for n, x, text in values]
    with path.open("w", newline="", encoding="utf-8", errors="strict") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["id", "rate", "text"])
        writer.writerows(values)

    found = rows_of(path).select(["id", "rate", "text"]).to_pylist()

    assert repr([tuple(row.values()) for row in found]) == repr(values)
