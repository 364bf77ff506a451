"""The behaviour of every store, with the real servers behind it instead of moto."""

from __future__ import annotations

import pytest
from service_table import ServiceTable
from store_behaviour import OpenStore, StoreBehaviour


class TestRealStores(StoreBehaviour):
    """By conditional PUT, and by a lock table."""

    racers, races = 8, 25

    @pytest.fixture
    def stores(self, table: ServiceTable) -> OpenStore:
        return table.store
