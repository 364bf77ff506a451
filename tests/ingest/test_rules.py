"""Quality rules at the door: rows that do not keep them are refused, or become dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dataframely as dy
import httpx
import polars as pl
import pyarrow as pa
import pytest
from ingest_lake import arrow_stream, stored
from sent_messages import Sent

from neuralake.catalog import Catalog
from neuralake.errors import NeedsAttention, UsageError
from neuralake.ingest.server import start_server
from neuralake.records.letters import letters_of
from neuralake.records.messages import Column, MessageReader
from neuralake.records.rules import Rules
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import DeltaTable, KafkaTopic, Stream

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("volts", pa.float64()),
        ("note", pa.string()),
    ]
)


class Readings(dy.Schema):
    id = dy.Int64(nullable=False)
    volts = dy.Float64(nullable=True, min=-5, max=5)

    @dy.rule()
    def even(cls) -> pl.Expr:  # noqa: N805 dataframely's way
        return pl.col("id") % 2 == 0


class Unique(dy.Schema):
    id = dy.Int64(primary_key=True)


class Narrow(dy.Schema):
    id = dy.Int32()


class Broken(dy.Schema):
    id = dy.Int64()

    @dy.rule()
    def wrong(cls) -> pl.Expr:  # noqa: N805
        return pl.col("nothing") > 0


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    settings = Settings(folder=str(tmp_path), lake=LakeSettings(root=str(tmp_path / "lake")))
    tables = [
        DeltaTable("strict", "strict", SCHEMA, stream=Stream(rules=Readings)),
        DeltaTable("kept", "kept", SCHEMA, stream=Stream(rules=Readings, on_invalid="dead_letter")),
        DeltaTable("unique", "unique", SCHEMA, stream=Stream(rules=Unique)),
        DeltaTable("narrow", "narrow", SCHEMA, stream=Stream(rules=Narrow)),
    ]
    found = Catalog({"lab": tables}, settings)
    yield found
    found.close()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[httpx.Client]:
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


ROWS = [{"id": 0, "volts": 1}, {"id": 1, "volts": 9}, {"id": None}, {"id": 4, "volts": None}]


def test_a_refusal_names_the_rules_and_the_rows(client: httpx.Client) -> None:
    answer = client.post("/v1/lab/strict", json=ROWS)

    problem = answer.json()
    assert answer.status_code == 422
    assert (problem["row"], problem["rule"], problem["rows"]) == (1, "even", [1, 2])
    assert problem["rules"] == {"even": 1, "volts|max": 1, "id|nullability": 1}
    assert "2 of 4 rows" in problem["detail"]


def test_rows_that_keep_the_rules_are_stored(catalog: Catalog, client: httpx.Client) -> None:
    assert client.post("/v1/lab/strict", json=[ROWS[0], ROWS[3]]).status_code == 202
    assert [row["id"] for row in stored(catalog.queue(), "lab.strict")] == [0, 4]


def test_rows_that_break_rules_are_letters_beside_those_that_do_not_fit(
    catalog: Catalog, client: httpx.Client
) -> None:
    body = [*ROWS, {"id": "x"}, {"id": 6}]

    answer = client.post("/v1/lab/kept", json=body).json()

    assert (answer["rows"], answer["dead_letters"]) == (3, 3)
    (envelope,) = catalog.queue().read("lab.kept", after=0)
    letters = letters_of(envelope)
    assert [(one.row, one.column) for one in letters] == [(1, None), (2, "id"), (4, "id")]
    assert [json.loads(one.value) for one in letters] == [ROWS[1], ROWS[2], {"id": "x"}]
    assert letters[0].reason == "it does not keep the rules 'even', 'volts|max'"


def test_arrow_rows_and_a_single_object_are_letters_too(client: httpx.Client) -> None:
    rows = pa.table({"id": [2, 3, 4]})
    headers = {"content-type": "application/vnd.apache.arrow.stream"}

    arrow = client.post("/v1/lab/kept", content=arrow_stream(rows), headers=headers).json()
    single = client.post("/v1/lab/kept", json={"id": 1}).json()

    assert (arrow["rows"], arrow["reasons"][0]["row"]) == (2, 1)
    assert (single["rows"], single["reasons"][0]["row"]) == (0, None)


def test_a_primary_key_holds_within_a_request(client: httpx.Client) -> None:
    twice = client.post("/v1/lab/unique", json=[{"id": 1}, {"id": 2}, {"id": 1}])

    assert twice.status_code == 422
    assert twice.json()["rule"] == "primary_key"
    assert client.post("/v1/lab/unique", json=[{"id": 1}, {"id": 2}]).status_code == 202


def test_rules_of_other_types_or_that_cannot_be_evaluated_need_a_person(
    client: httpx.Client,
) -> None:
    answer = client.post("/v1/lab/narrow", json={"id": 1})

    assert answer.status_code == 500
    assert "id" in answer.json()["detail"]
    with pytest.raises(NeedsAttention, match="nothing"):
        Rules(Broken, SCHEMA, name="lab.t")


def test_definitions_refuse_what_are_no_rules_of_the_table() -> None:
    with pytest.raises(UsageError, match="dataframely"):
        Stream(rules=object())
    with pytest.raises(UsageError, match="volts"):
        DeltaTable("t", "t", pa.schema([("id", pa.int64())]), stream=Stream(rules=Readings))
    with pytest.raises(UsageError, match="primary key"):
        Stream(rules=Unique, kafka=KafkaTopic("t"))


def reader(**more: object) -> MessageReader:
    given = {"name": "t", "partition_by": (), "format": "json", "rows_max": 100}
    rules = Rules(Readings, SCHEMA, name="t")
    return MessageReader(SCHEMA, rules=rules, **(given | more))  # type: ignore[arg-type]


def test_messages_that_break_rules_are_letters_and_the_order_of_the_others_is_kept() -> None:
    sent = [b'{"id": %d}' % number for number in range(100)]
    sent[50] = b'[{"id": 100}, {"id": 101}, {"id": 102}]'
    sent[51] = b"no"

    whole, kept = reader().read(Sent(sent)), reader(keeps_rows=True).read(Sent(sent))

    assert whole.rows["id"].to_pylist() == [n for n in range(0, 100, 2) if n != 50]
    assert len(whole.rejected) == 51
    assert kept.rows["id"].to_pylist() == [*range(0, 50, 2), 100, 102, *range(52, 100, 2)]
    (row,) = [letter for letter in kept.rejected if letter.row is not None]
    assert (row.row, row.value, row.position) == (1, b'{"id": 101}', 510)


def test_rules_see_what_came_beside_the_value_and_each_line() -> None:
    columns = [Column("note", "key")]
    lines = [b'{"id": 1}\n{"id": 2}', b'{"id": 4}']

    found = reader(format="ndjson", keeps_rows=True, columns=columns).read(
        Sent(lines, key=[b"a", b"b"])
    )

    assert [(row["id"], row["note"]) for row in found.rows.to_pylist()] == [(2, "a"), (4, "b")]
    assert [(one.row, one.value) for one in found.rejected] == [(0, b'{"id": 1}')]
