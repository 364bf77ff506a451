"""A lake with stream tables, its HTTP server in a thread, and a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ingest_lake import lake

from neuralake.catalog import Catalog
from neuralake.ingest.server import RunningServer, start_server
from neuralake.queue import Queue


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    found = lake(tmp_path, wait_s_max=20.0)
    yield found
    found.close()


@pytest.fixture
def queue(catalog: Catalog) -> Queue:
    return catalog.queue()


@pytest.fixture
def server(catalog: Catalog) -> Iterator[RunningServer]:
    with start_server(catalog) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
