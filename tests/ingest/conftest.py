"""A lake with stream tables, its HTTP server in a thread, and a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ingest_lake import lake

from neuralake.catalog import Catalog
from neuralake.ingest.server import start_server
from neuralake.queue import Queue


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Small limits, so that tests of them are quick."""
    found = lake(tmp_path, body_bytes_max=1_000_000, rows_max=1000, wait_s_max=60.0)
    yield found
    found.queue().close()


@pytest.fixture
def queue(catalog: Catalog) -> Queue:
    return catalog.queue()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[httpx.Client]:
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
