"""What a request may cost beyond its bytes and rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_lake import lake, stored

import neuralake as nl
from neuralake.ingest.server import start_server
from neuralake.records.media_types import ARROW, PARQUET
from neuralake.settings import IngestSettings, LakeSettings, QueueSettings, Settings

NOTES = "/v1/lab/notes"
NDJSON = {"content-type": "application/x-ndjson"}


def lines(authors: int) -> bytes:
    """Notes, one of each author, who are the partitions."""
    notes = [{"author": f"a-{i}", "text": "a note of some length"} for i in range(authors)]
    return b"".join(json.dumps(note).encode() + b"\n" for note in notes)


@pytest.mark.parametrize(
    ("limits", "unit"),
    [({"partitions_max": 5}, "partitions"), ({"json_bytes_max": 300}, "bytes of text")],
)
def test_a_body_beyond_the_bound_is_413_and_stores_nothing(
    tmp_path: Path, limits: dict[str, Any], unit: str
) -> None:
    catalog = lake(tmp_path, **limits)
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post(NOTES, content=lines(6), headers=NDJSON)
        rows = stored(catalog.queue(), "lab.notes")
        accepted = client.post(NOTES, content=lines(1), headers=NDJSON)
    catalog.queue().close()

    assert (answer.status_code, answer.json()["unit"]) == (413, unit)
    assert rows == []
    assert accepted.status_code == 202


def test_many_rows_of_few_partitions_are_no_trouble(tmp_path: Path) -> None:
    catalog = lake(tmp_path, partitions_max=5)
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post(NOTES, content=lines(5) * 20, headers=NDJSON)
    catalog.queue().close()

    assert answer.status_code == 202


def test_a_full_table_is_429_and_the_others_go_on(tmp_path: Path) -> None:
    catalog = lake(tmp_path, queue=QueueSettings(table_rows_max=10))
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(2):
            assert client.post(NOTES, content=lines(5), headers=NDJSON).status_code == 202
        full = client.post(NOTES, content=lines(1), headers=NDJSON)
        other = client.post("/v1/lab/spikes", json={"session": "s"})
        queue = catalog.queue()
        queue.trim("lab.notes", through=10, appended_before_s=float("inf"))
        again = client.post(NOTES, content=lines(1), headers=NDJSON)
    catalog.queue().close()

    assert (full.status_code, full.headers["retry-after"]) == (429, "1")
    told = full.json()
    assert (told["topic"], told["unit"], told["limit"], told["kept"]) == (
        "lab.notes",
        "rows",
        10,
        10,
    )
    assert "lab.notes" in told["detail"]
    assert (other.status_code, again.status_code) == (202, 202)


@pytest.mark.parametrize("small", [True, False], ids=["combined", "alone"])
def test_a_request_that_the_table_will_never_hold_is_413(tmp_path: Path, small: bool) -> None:
    catalog = lake(tmp_path, queue=QueueSettings(table_rows_max=10))
    headers = NDJSON if small else NDJSON | {"idempotency-key": "k"}
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post(NOTES, content=lines(11), headers=headers)
        fits = client.post(NOTES, content=lines(10), headers=headers)
    catalog.queue().close()

    assert (answer.status_code, answer.json()["limit"], answer.json()["unit"]) == (413, 10, "rows")
    assert fits.status_code == 202


def test_a_stream_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    tables = [
        nl.DeltaTable("tight", "tight", schema, stream=nl.Stream(queue_rows_max=2)),
        nl.DeltaTable("small", "small", schema, stream=nl.Stream(queue_bytes_max=300)),
        nl.DeltaTable("wide", "wide", schema, stream=nl.Stream()),
    ]
    settings = Settings(folder=str(tmp_path), lake=LakeSettings(root=str(tmp_path / "lake")))
    catalog = nl.Catalog({"lab": tables}, settings)
    answers = {}
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for name in ("tight", "small", "wide"):
            rows = [{"text": "x" * 100}] * 3
            answers[name] = client.post(f"/v1/lab/{name}", json=rows)
    catalog.queue().close()

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "tight": 413,
        "small": 413,
        "wide": 202,
    }
    assert (answers["tight"].json()["unit"], answers["small"].json()["unit"]) == ("rows", "bytes")


WIDE = pa.schema([(f"c{number}", pa.float64()) for number in range(100)])
CSV = {"content-type": "text/csv"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}\n" * 1001, NDJSON),
        (b"{}" * 1001, NDJSON),
        (b"{}\n" * 400_000, NDJSON),
        (b"{\n}" * 1001, NDJSON),
        (b"[" + b"{}," * 1000 + b"{}]", {"content-type": "application/json"}),
        (b"[" + b"{}," * 1000 + b'{"c1":1E0}]', {"content-type": "application/json"}),
        (b"c1\n" + b"1\n" * 1001, CSV),
        (b"c1\r\n" + b'""\r\n' * 400_000, CSV),
    ],
)
def test_rows_of_next_to_nothing_count_by_the_columns_of_the_table(
    tmp_path: Path, body: bytes, headers: dict[str, str]
) -> None:
    """A few bytes may stand for a row of a hundred nulls; as many rows of notes are no trouble."""
    with serving_wide(tmp_path) as client:
        answer = client.post("/v1/lab/wide", content=body, headers=headers)

    told = answer.json()
    assert (answer.status_code, told["unit"], told["limit"]) == (413, "cells", 100_000)
    assert told["found"] > 100_000
    assert "in parts of at most 1000 rows" in told["detail"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}\n" * 1000, NDJSON),
        (b"{\n}" * 1000, NDJSON),
        (b"[" + b"{}," * 999 + b"{}]", {"content-type": "application/json"}),
        (b"c1\n" + b"1\n" * 1000, CSV),
        (b"c1\n1\n" + b"\n" * 100_000, CSV),
    ],
)
def test_as_many_cells_as_may_be_are_stored(
    tmp_path: Path, body: bytes, headers: dict[str, str]
) -> None:
    """Empty lines of CSV are no rows."""
    with serving_wide(tmp_path) as client:
        assert client.post("/v1/lab/wide", content=body, headers=headers).status_code == 202


def test_rows_that_do_not_fit_are_bounded_by_cells_too(tmp_path: Path) -> None:
    body = b'{"c1": "no"}\n' + b"{}\n" * 1001
    with serving_wide(tmp_path, nl.Stream(on_invalid="dead_letter")) as client:
        answer = client.post("/v1/lab/wide", content=body, headers=NDJSON)

    assert (answer.status_code, answer.json()["unit"]) == (413, "cells")


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_columns_are_not_bounded_by_cells_though_a_row_does_not_fit(
    tmp_path: Path, media_type: str
) -> None:
    rows = pa.table({"c1": pa.array([1] * 1001 + [2**53 + 1])})  # No float is the last.
    sink = pa.BufferOutputStream()
    if media_type == PARQUET:
        pq.write_table(rows, sink)
    else:
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
    body = sink.getvalue().to_pybytes()
    with serving_wide(tmp_path, nl.Stream(on_invalid="dead_letter")) as client:
        answer = client.post("/v1/lab/wide", content=body, headers={"content-type": media_type})

    assert answer.status_code == 202, answer.text
    assert (answer.json()["rows"], answer.json()["dead_letters"]) == (1001, 1)


@contextmanager
def serving_wide(folder: Path, stream: nl.Stream | None = None) -> Iterator[httpx.Client]:
    """A table of a hundred columns, in a lake that takes a hundred thousand cells at once."""
    settings = Settings(
        folder=str(folder),
        lake=LakeSettings(root=str(folder / "lake")),
        ingest=IngestSettings(cells_max=100_000),
    )
    table = nl.DeltaTable("wide", "wide", WIDE, stream=stream or nl.Stream())
    catalog = nl.Catalog({"lab": [table]}, settings)
    with start_server(catalog) as server, httpx.Client(base_url=server.url) as client:
        yield client
    catalog.close()
