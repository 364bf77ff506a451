"""Every store passes the one suite: `tests/support/store_behaviour.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_account import AwsAccount
from store_behaviour import OpenStore, StoreBehaviour

from neuralake.settings import StorageProfile
from neuralake.storage import LocalStore, MemoryStore, open_store


class TestLocalStore(StoreBehaviour):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> OpenStore:
        return lambda: LocalStore(tmp_path / "table")


class TestMemoryStore(StoreBehaviour):
    @pytest.fixture
    def stores(self) -> OpenStore:
        store = MemoryStore()
        return lambda: store


class TestS3Store(StoreBehaviour):
    @pytest.fixture
    def stores(self, account: AwsAccount) -> OpenStore:
        bucket, environment = account.make_bucket(), account.environment()
        return lambda: open_store(f"s3://{bucket}/lake/table", environment=environment)


class TestCoordinatedStore(StoreBehaviour):
    @pytest.fixture
    def stores(self, account: AwsAccount) -> OpenStore:
        profile = StorageProfile(
            uri=f"s3://{account.make_bucket()}/",
            coordination="dynamodb",
            lock_table=account.make_lock_table(),
        )
        environment = account.environment()
        return lambda: open_store(f"{profile.uri}lake/table", [profile], environment)
