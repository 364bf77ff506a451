"""A lake with stream tables and its HTTP server in a thread. For tests of the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_lake import lake

from neuralake.catalog import Catalog
from neuralake.ingest.server import start_server
from neuralake.queue import Queue


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    found = lake(tmp_path, body_bytes_max=1_000_000, rows_max=10_000)
    yield found
    found.queue().close()


@pytest.fixture
def queue(catalog: Catalog) -> Queue:
    return catalog.queue()


@pytest.fixture
def url(catalog: Catalog) -> Iterator[str]:
    with start_server(catalog) as server:
        yield server.url
