"""New columns come with the rows that have them: into the table by the same commit, and no row is
lost when two processes took one for different things."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_lake import arrow_stream
from letter_lake import written

from neuralake.catalog import Catalog
from neuralake.delta import added_columns, compact_once, snapshot
from neuralake.ingest.committed import Watches
from neuralake.ingest.server import start_server
from neuralake.ingest.target import Targets
from neuralake.records.media_types import JSON
from neuralake.serve.query import query
from neuralake.settings import LakeSettings, Settings, WriterSettings
from neuralake.tables import DeltaTable, Stream
from neuralake.writer import LetterBox, Replacement, Replayer

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("site", pa.string())])
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    settings = Settings(
        folder=str(tmp_path),
        lake=LakeSettings(root=str(tmp_path / "lake")),
        writer=WriterSettings(flush_ms_max=5),
    )
    stream = Stream(unknown_columns="evolve", on_invalid="dead_letter")
    table = DeltaTable("events", "events", SCHEMA, partition_by=["site"], stream=stream)
    found = Catalog({"lab": [table]}, settings)
    yield found
    found.close()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[httpx.Client]:
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def send(client: httpx.Client, *rows: Any) -> dict[str, Any]:
    answer = client.post("/v1/lab/events", json=list(rows))
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def rows(catalog: Catalog) -> list[dict[str, Any]]:
    return list(catalog.db("lab").table("events", evolved=True).collect().sort("id").to_dicts())


def definition(catalog: Catalog) -> DeltaTable:
    found = catalog.definition("lab", "events")
    assert isinstance(found, DeltaTable)
    return found


def test_a_new_column_comes_with_the_first_rows_that_have_it(
    catalog: Catalog, client: httpx.Client
) -> None:
    send(client, {"id": 1})
    written(catalog)
    send(client, {"id": 2, "volts": 1.5}, {"id": 3, "ok": True, "volts": None})
    written(catalog)
    send(client, {"id": 4, "volts": 7})
    written(catalog)

    assert rows(catalog) == [
        {"id": 1, "site": None, "volts": None, "ok": None},
        {"id": 2, "site": None, "volts": 1.5, "ok": None},
        {"id": 3, "site": None, "volts": None, "ok": True},
        {"id": 4, "site": None, "volts": 7.0, "ok": None},
    ]
    assert catalog.db("lab").table("events").collect().columns == ["id", "site"]
    found = snapshot(catalog.store_of(definition(catalog)))
    came = added_columns(found.state.metadata)
    assert [(one.name, one.type) for one in came] == [("volts", "double"), ("ok", "bool")]
    assert len({one.version for one in came}) == 1


def test_the_column_is_there_in_the_commit_of_its_rows_and_not_before(
    catalog: Catalog, client: httpx.Client
) -> None:
    send(client, {"id": 1})
    written(catalog)
    store = catalog.store_of(definition(catalog))
    before = snapshot(store).version
    send(client, {"id": 2, "volts": 1.5})
    assert snapshot(store).schema.names == ["id", "site"]
    written(catalog)

    log = Path(catalog.uri_of(definition(catalog)), "_delta_log", f"{before + 1:020}.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {key for line in lines for key in line} == {"commitInfo", "txn", "metaData", "add"}


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, 2], pl.Int64, [1, 2]),
        ([1, 2.5], pl.Float64, [1.0, 2.5]),
        ([True, None], pl.Boolean, [True, None]),
        ([1, "a"], pl.String, ["1", "a"]),
        ([True, 1.50], pl.String, ["true", "1.5"]),
        ([2**63, 1], pl.Float64, [float(2**63), 1.0]),
        (["2026-01-31T10:20:30Z"], pl.String, ["2026-01-31T10:20:30Z"]),
    ],
)
def test_a_type_takes_all_values_of_the_first_request(
    catalog: Catalog, client: httpx.Client, values: list[Any], kind: Any, stored: list[Any]
) -> None:
    send(client, *({"id": n, "new": value} for n, value in enumerate(values)))
    written(catalog)

    frame = catalog.db("lab").table("events", evolved=True).collect().sort("id")
    assert frame.schema["new"] == kind
    assert frame["new"].to_list() == stored


def test_a_large_body_and_arrow_bring_columns_too(catalog: Catalog, client: httpx.Client) -> None:
    lines = "\n".join(json.dumps({"id": n, "x": n, "y": "é"}) for n in range(2000))
    headers = {"content-type": "application/x-ndjson"}
    assert client.post("/v1/lab/events", content=lines, headers=headers).json()["rows"] == 2000
    table = pa.table({"id": [5000], "z": pa.array([7], pa.int16()), "none": pa.nulls(1)})
    client.post("/v1/lab/events", content=arrow_stream(table), headers=ARROW)
    written(catalog)

    frame = catalog.db("lab").table("events", evolved=True).collect()
    assert frame.columns == ["id", "site", "x", "y", "z"]
    assert frame["x"].sum() == 1999 * 1000
    assert frame["z"].drop_nulls().to_list() == [7]


def test_parquet_brings_the_types_that_it_has(catalog: Catalog, client: httpx.Client) -> None:
    sink, table = io.BytesIO(), pa.table({"id": [1, 2], "z": pa.array([7, None], pa.int16())})
    pq.write_table(table, sink)
    headers = {"content-type": "application/vnd.apache.parquet"}
    answer = client.post("/v1/lab/events", content=sink.getvalue(), headers=headers)
    assert answer.status_code == 202
    written(catalog)

    frame = catalog.db("lab").table("events", evolved=True).collect().sort("id")
    assert frame.schema["z"] == pl.Int16
    assert frame["z"].to_list() == [7, None]


def test_new_columns_of_csv_are_texts_as_they_are_written(
    catalog: Catalog, client: httpx.Client
) -> None:
    """CSV has no types: 007 may be a name. In a column that has a type they are read as it."""
    bodies = [
        "id,serial,nothing\n1,007,\n2,,\n",
        'id,nothing,serial,note\n3,,"","a\nb"\n',
        "id,serial\nbad,1\n4,1.50\n",
    ]
    send(client, {"id": 0, "count": 5})
    for body in [*bodies, "id,count\n5,006\n"]:
        answer = client.post("/v1/lab/events", content=body, headers={"content-type": "text/csv"})
        assert answer.status_code == 202, answer.text
    send(client, {"id": 6, "serial": 8})
    written(catalog)

    assert [tuple(row.values()) for row in rows(catalog)] == [
        (0, None, 5, None, None),
        (1, None, None, "007", None),
        (2, None, None, None, None),
        (3, None, None, "", "a\nb"),
        (4, None, None, "1.50", None),
        (5, None, 6, None, None),
        (6, None, None, "8", None),
    ]


def test_what_cannot_be_a_column_and_what_does_not_fit_it_later_are_letters(
    catalog: Catalog, client: httpx.Client
) -> None:
    first = send(client, {"id": 1, "n": 1}, {"id": 2, "deep": {"a": 1}}, {"id": 3, "a b": 1})
    later = send(client, {"id": 4, "n": 1.5}, {"id": 5, "ID": 1}, {"id": 6, "n": 2})
    written(catalog)

    assert (first["rows"], first["dead_letters"]) == (1, 2)
    assert (later["rows"], later["dead_letters"]) == (1, 2)
    assert [row["id"] for row in rows(catalog)] == [1, 6]


def test_two_processes_that_took_a_column_for_different_things_lose_no_row(
    catalog: Catalog,
) -> None:
    """Both have acknowledged; the table has one type, and what it does not take is a letter."""
    queue, bodies = catalog.queue(), [b'{"id": 1, "x": 1}', b'{"id": 2, "x": "two"}']
    targets = [Targets(catalog, Watches(catalog)).find("lab", "events") for _ in bodies]
    for target, body in zip(targets, bodies, strict=True):
        found = target.decoder.envelope(body, JSON)
        queue.append("lab.events", found.payload, found.rows)
        written(catalog)

    assert [(row["id"], row["x"]) for row in rows(catalog)] == [(1, 1)]
    box = LetterBox(catalog, "lab", definition(catalog))
    (letter,) = box.letters(values=True)
    assert letter.column == "x"
    mended = Replacement(letter.id, b'{"id": 2, "x": 2}', "json")
    assert Replayer(catalog, "lab", definition(catalog)).replay([mended]).rows == 1
    assert [(row["id"], row["x"]) for row in rows(catalog)] == [(1, 1), (2, 2)]


def test_types_of_one_batch_widen(catalog: Catalog) -> None:
    queue = catalog.queue()
    bodies = [b'{"id": 1, "x": 1}', b'{"id": 2, "x": 2.5}', b'{"id": 3, "x": null, "y": true}']
    for body in [*bodies, b'{"id": 4, "y": "no"}']:
        target = Targets(catalog, Watches(catalog)).find("lab", "events")
        found = target.decoder.envelope(body, JSON)
        queue.append("lab.events", found.payload, found.rows)
    written(catalog)

    assert [(row["x"], row["y"]) for row in rows(catalog)] == [
        (1.0, None),
        (2.5, None),
        (None, "true"),
        (None, "no"),
    ]


def test_live_frames_batch_writes_and_compaction_go_on(
    catalog: Catalog, client: httpx.Client
) -> None:
    for number in range(6):
        send(client, {"id": number} | ({"x": number} if number % 2 else {}))
        written(catalog)
    send(client, {"id": 6, "fresh": "f"})
    live = catalog.db("lab").table("events", live=True).collect()
    assert sorted(live["id"]) == list(range(7))
    send(client, {"id": 7, "x": 70})
    live = catalog.db("lab").table("events", live=True, evolved=True).collect().sort("id")
    assert live["x"].to_list() == [None, 1, None, 3, None, 5, None, 70]
    sql = query(catalog, "SELECT x FROM lab.events ORDER BY id", live=True)
    assert sql["x"].to_pylist() == [None, 1, None, 3, None, 5, None, 70]
    catalog.db("lab").batch_writer("events").append([{"id": 8}])
    compact_once(catalog.store_of(definition(catalog)), files_min=2, target_bytes=10**8)
    written(catalog)

    assert [(row["id"], row["x"]) for row in rows(catalog)] == [
        *((n, n if n % 2 else None) for n in range(6)),
        (6, None),
        (7, 70),
        (8, None),
    ]


def test_a_server_that_starts_again_knows_the_columns(catalog: Catalog) -> None:
    for body in ({"id": 1, "x": 1}, {"id": 2, "x": 2}):
        with (
            start_server(catalog) as server,
            httpx.Client(base_url=server.url, timeout=60) as client,
        ):
            send(client, body)
        written(catalog)

    assert [row["x"] for row in rows(catalog)] == [1, 2]


def test_a_strangers_names_and_columns_are_bounded(client: httpx.Client) -> None:
    row = {"id": 1} | {f"c{n}": 1 for n in range(1500)}

    answer = send(client, row)

    assert answer["dead_letters"] == 1
