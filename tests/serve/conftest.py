from __future__ import annotations

from collections.abc import Iterator

import pytest
from sql_lake import LIMITS, Lake, make_lake, serving

from neuralake.serve import gateway as gateway_module
from neuralake.serve.gateway import Gateway


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Read only: tests that write make their own with `make_lake`."""
    return make_lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="session")
def gateway(lake: Lake) -> Iterator[Gateway]:
    with Gateway(lake.catalog, processes=1, limits=LIMITS) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def url(gateway: Gateway) -> Iterator[str]:
    with serving(gateway) as url:
        yield url


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query's process may take as long to start as a busy machine makes it."""
    monkeypatch.setattr(gateway_module, "_START_S_MAX", 200.0)
