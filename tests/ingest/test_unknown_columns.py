"""Columns that the table has not: refused, or left out and told, by the table's policy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from ingest_lake import arrow_stream, stored
from sent_messages import Sent

from neuralake.catalog import Catalog
from neuralake.errors import UsageError
from neuralake.ingest.server import start_server
from neuralake.records.messages import MessageReader
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import DeltaTable, Stream

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("site", pa.string())])
NESTED = pa.schema([("id", pa.int64()), ("at", pa.struct([("x", pa.int64())]))])
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    settings = Settings(folder=str(tmp_path), lake=LakeSettings(root=str(tmp_path / "lake")))
    drop = Stream(unknown_columns="drop", on_invalid="dead_letter")
    tables = [
        DeltaTable("drop", "drop", SCHEMA, stream=drop),
        DeltaTable("nested", "nested", NESTED, stream=Stream(unknown_columns="drop")),
        DeltaTable("reject", "reject", SCHEMA, stream=Stream()),
    ]
    found = Catalog({"lab": tables}, settings)
    yield found
    found.close()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[httpx.Client]:
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def test_unknown_columns_are_left_out_and_the_answer_says_of_how_many_rows(
    catalog: Catalog, client: httpx.Client
) -> None:
    rows = [{"id": 1, "x": 1}, {"id": 2, "site": "a", "x": None, "y": {"deep": [1]}}, {"id": 3}]

    answer = client.post("/v1/lab/drop", json=rows).json()

    assert answer["dropped_columns"] == {"x": 2, "y": 1}
    metrics = client.get("/metrics").text
    assert re.findall(r"ingest_dropped_values_total\{.*\} (.*)", metrics) == ["3.0"]
    assert stored(catalog.queue(), "lab.drop") == [
        {"id": 1, "site": None},
        {"id": 2, "site": "a"},
        {"id": 3, "site": None},
    ]


@pytest.mark.parametrize("table", ["drop", "nested"])
def test_many_rows_are_the_same(catalog: Catalog, client: httpx.Client, table: str) -> None:
    lines = [json.dumps({"id": n} | ({"other": "é"} if n % 3 == 0 else {})) for n in range(900)]

    answer = client.post(f"/v1/lab/{table}", content="\n".join(lines), headers=NDJSON).json()

    assert answer["dropped_columns"] == {"other": 300}
    assert [row["id"] for row in stored(catalog.queue(), f"lab.{table}")] == list(range(900))


def test_arrow_columns_are_left_out(catalog: Catalog, client: httpx.Client) -> None:
    rows = pa.table({"id": [1, 2], "more": [[1], [2]]})

    answer = client.post("/v1/lab/drop", content=arrow_stream(rows), headers=ARROW).json()

    assert answer["dropped_columns"] == {"more": 2}
    assert [row["id"] for row in stored(catalog.queue(), "lab.drop")] == [1, 2]


def test_an_arrow_stream_of_unknown_columns_only_has_rows_without_values(
    catalog: Catalog, client: httpx.Client
) -> None:
    body = arrow_stream(pa.table({"more": [1, 2]}))

    answer = client.post("/v1/lab/nested", content=body, headers=ARROW)

    assert (answer.status_code, answer.json()["rows"]) == (202, 2)
    assert stored(catalog.queue(), "lab.nested") == [{"id": None, "at": None}] * 2


def test_rows_that_lack_what_they_need_are_letters_although_columns_were_left_out(
    client: httpx.Client,
) -> None:
    lines = b'{"id": 1, "x": 1}\n{"ID": 2}\n{"id": 3, "x": 2}'

    answer = client.post("/v1/lab/drop", content=lines, headers=NDJSON).json()

    assert (answer["rows"], answer["dead_letters"]) == (2, 1)
    assert answer["dropped_columns"] == {"x": 2}
    assert answer["reasons"][0]["column"] == "id"


def test_fields_of_structs_are_no_columns(client: httpx.Client) -> None:
    small = client.post("/v1/lab/nested", json={"id": 1, "z": 1, "at": {"x": 1, "y": 2}})
    rows = [{"id": 1, "at": {"x": 1}, "z": 1}] * 500 + [{"id": 1, "at": {"x": 1, "y": 2}}]
    many = client.post("/v1/lab/nested", json=rows)

    assert [small.status_code, many.status_code] == [422, 422]
    assert small.json()["column"] == many.json()["column"] == "at.y"


def test_a_strangers_names_are_neither_many_nor_long_in_the_answer(client: httpx.Client) -> None:
    row: dict[str, Any] = {"id": 1} | {f"c{n}" + "x" * 500: 1 for n in range(1000)}

    answer = client.post("/v1/lab/drop", json=row)

    assert len(answer.json()["dropped_columns"]) == 21
    assert answer.json()["dropped_columns"]["…"] == 980
    assert len(answer.content) < 4000


def test_without_the_policy_they_are_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/lab/reject", json={"id": 1, "x": 1})

    assert (answer.status_code, answer.json()["column"]) == (422, "x")


def test_of_messages_they_are_left_out_too() -> None:
    reader = MessageReader(
        SCHEMA, name="lab.drop", partition_by=(), format="json", rows_max=10, drops=True
    )

    found = reader.read(Sent([b'{"id": 1, "x": 1}', b'{"id": 2}']))

    assert found.rows["id"].to_pylist() == [1, 2]
    assert found.rejected == []


def test_a_policy_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="'drop'"):
        Stream(unknown_columns="ignore")


def test_columns_of_csv_are_left_out_too(catalog: Catalog, client: httpx.Client) -> None:
    csv = {"content-type": "text/csv"}
    answer = client.post("/v1/lab/drop", content=b"x,id,y\n1,1,\n2,2,b\n", headers=csv).json()
    refused = client.post("/v1/lab/reject", content=b"x,id\n1,1\n", headers=csv)

    assert (answer["rows"], answer["dropped_columns"]) == (2, {"x": 2, "y": 2})
    assert [row["id"] for row in stored(catalog.queue(), "lab.drop")] == [1, 2]
    assert (refused.status_code, refused.json()["column"]) == (422, "x")
