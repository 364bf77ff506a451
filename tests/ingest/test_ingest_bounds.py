"""What a request may cost beyond its bytes and rows."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from ingest_lake import lake, stored

from neuralake.ingest.server import start_server

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
    tmp_path: Path, limits: dict[str, int], unit: str
) -> None:
    catalog = lake(tmp_path, **limits)
    with start_server(catalog) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post(NOTES, content=lines(6), headers=NDJSON)
        rows = stored(catalog.queue(), "lab.notes")
        accepted = client.post(NOTES, content=lines(1), headers=NDJSON)
    catalog.queue().close()

    assert (answer.status_code, answer.json()["unit"]) == (413, unit)
    assert rows == []
    assert accepted.status_code == 202


def test_many_rows_of_few_partitions_are_no_trouble(tmp_path: Path) -> None:
    catalog = lake(tmp_path, partitions_max=5)
    with start_server(catalog) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post(NOTES, content=lines(5) * 20, headers=NDJSON)
    catalog.queue().close()

    assert answer.status_code == 202
