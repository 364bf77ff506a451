"""No row is acknowledged that the writer could not commit, whoever of the two starts first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from neuralake.catalog import Catalog
from neuralake.delta import TableLog, create_table
from neuralake.ingest.server import start_server
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import DeltaTable, Stream
from neuralake.writer import FlushLimits, TopicWriter

SCHEMA = pa.schema([("room", pa.string()), ("n", pa.int32())])
TOPIC = "lab.notes"


def lake(folder: Path, schema: pa.Schema = SCHEMA, **changes: Any) -> Catalog:
    table = DeltaTable("notes", "lab/notes", schema, stream=Stream(), **changes)
    settings = Settings(folder=str(folder), lake=LakeSettings(root=str(folder / "lake")))
    return Catalog({"lab": [table]}, settings)


def post(catalog: Catalog, row: dict[str, Any]) -> httpx.Response:
    with start_server(catalog) as server:
        return httpx.post(f"{server.url}/v1/lab/notes", json=row, timeout=60)


def write_all(catalog: Catalog) -> None:
    """What the writer does: make the table, and commit everything."""
    uri = catalog.uri_of(catalog.definition("lab", "notes"))
    create_table(uri, SCHEMA)
    limits = FlushLimits(age_ms_max=1, rows_max=1000, bytes_max=1_000_000)
    TopicWriter(catalog.queue(), TOPIC, TableLog.open(uri), limits).step(flush=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": SCHEMA.append(pa.field("unit", pa.string()))},
        {"schema": pa.schema([("room", pa.string())])},
        {"schema": pa.schema([("room", pa.string()), ("n", pa.int64())])},
        {"partition_by": ["room"]},
    ],
    ids=str,
)
def test_rows_of_a_changed_definition_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Stored, they would stand in the way of all later rows, also if the change is undone."""
    before = lake(tmp_path)
    assert post(before, {"room": "a"}).status_code == 202
    write_all(before)

    catalog = lake(tmp_path, **changed)
    answer = post(catalog, {"room": "b"})

    assert (answer.status_code, answer.json()["title"]) == (500, "Needs attention")
    assert "No rows are taken for lab.notes" in answer.json()["detail"]
    assert catalog.queue().bounds(TOPIC).last == 1
    assert post(lake(tmp_path), {"room": "b"}).status_code == 202


def test_an_older_copy_of_the_queue_takes_no_rows(tmp_path: Path) -> None:
    """Its next position is one that the table has: the row would be lost, and called committed."""
    first = lake(tmp_path)
    assert post(first, {"room": "a"}).status_code == 202
    first.queue().close()
    folder = first.settings.queue_path.parent
    shutil.copytree(folder, tmp_path / "backup")
    second = lake(tmp_path)
    assert post(second, {"room": "b"}).status_code == 202
    write_all(second)
    second.queue().close()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)

    restored = lake(tmp_path)
    answer = post(restored, {"room": "c"})

    assert (answer.status_code, answer.json()["committed"]) == (500, 2)
    assert restored.queue().bounds(TOPIC).last == 1


def test_a_table_that_is_not_made_yet_takes_rows(tmp_path: Path) -> None:
    catalog = lake(tmp_path)

    assert post(catalog, {"room": "a"}).status_code == 202
    assert not (tmp_path / "lake" / "lab").exists()  # Making it is for the writer.
