"""A lake with stream tables, its HTTP server in a thread, and a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pyarrow as pa
import pytest

from neuralake.catalog import Catalog
from neuralake.ingest.server import start_server
from neuralake.queue import Queue
from neuralake.settings import IngestSettings, LakeSettings, QueueSettings, Settings
from neuralake.table import DeltaTable, Stream

SPIKES = pa.schema(
    [
        pa.field("session", pa.string(), nullable=False),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int16()),
        ("rate", pa.float32()),
    ]
)


def lab() -> ModuleType:
    """A database: `spikes` and `notes` take rows, `fixed` does not."""
    module = ModuleType("lab")
    notes = pa.schema([("author", pa.string()), ("text", pa.string())])
    tables = [
        DeltaTable("spikes", "lab/spikes", SPIKES, stream=Stream()),
        DeltaTable("notes", "lab/notes", notes, partition_by=["author"], stream=Stream()),
        DeltaTable("fixed", "lab/fixed", SPIKES),
    ]
    for definition in tables:
        setattr(module, definition.name, definition)
    return module


def lake(folder: Path, **limits: float) -> Catalog:
    settings = Settings(
        folder=str(folder),
        lake=LakeSettings(root=str(folder / "lake")),
        ingest=IngestSettings(**limits),  # type: ignore[arg-type]
        queue=QueueSettings(),
    )
    return Catalog({"lab": lab()}, settings)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Small limits, so that tests of them are quick."""
    found = lake(tmp_path, body_bytes_max=1_000_000, rows_max=1000, wait_s_max=10.0)
    yield found
    found.queue().close()


@pytest.fixture
def queue(catalog: Catalog) -> Queue:
    return catalog.queue()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[httpx.Client]:
    with start_server(catalog) as server, httpx.Client(base_url=server.url) as client:
        yield client
