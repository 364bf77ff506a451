"""What a request may cost beyond its bytes and rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from ingest_lake import lake, stored

import neuralake as nl
from neuralake.ingest.server import start_server
from neuralake.settings import LakeSettings, QueueSettings, Settings

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
