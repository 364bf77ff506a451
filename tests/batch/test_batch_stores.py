"""Batch writes on object stores, in both modes of coordination, as on a disk."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from aws_account import AwsAccount
from delta_tables import read_all
from moto_server import moto_account

from neuralake.batch import BatchWriter
from neuralake.delta import snapshot
from neuralake.filters import Filter
from neuralake.settings import StorageProfile
from neuralake.storage import LogStore, open_store

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string())])


@pytest.fixture(scope="module")
def account() -> Iterator[AwsAccount]:
    with moto_account() as account:
        yield account


@pytest.fixture(params=["conditional-put", "dynamodb"])
def store(account: AwsAccount, request: pytest.FixtureRequest) -> LogStore:
    bucket = account.make_bucket()
    profile = StorageProfile(
        uri=f"s3://{bucket}/",
        coordination=request.param,
        lock_table=account.make_lock_table() if request.param == "dynamodb" else "delta_log",
    )
    return open_store(f"s3://{bucket}/lake/t", [profile], account.environment())


def ids(store: LogStore) -> list[int]:
    return sorted(read_all(store)["id"].to_pylist())


def test_every_write_works_and_a_repeat_is_known(store: LogStore) -> None:
    table = BatchWriter(store, schema=SCHEMA, partition_by=["site"])
    table.append([{"id": number, "site": "ab"[number % 2]} for number in range(6)])

    table.delete(Filter("id", "=", 2))
    table.merge([{"id": 3, "site": "a"}, {"id": 9, "site": "b"}], on="id")
    table.overwrite([{"id": 10, "site": "b"}], Filter("site", "=", "b"))
    first = table.overwrite_partitions([{"id": 11, "site": "b"}], app_id="job", version=1)
    again = BatchWriter(store).overwrite_partitions([], app_id="job", version=1)

    assert ids(store) == [0, 3, 4, 11]
    assert (first.repeated, again.repeated, again.version) == (False, True, first.version)


def test_two_writers_and_an_appender_lose_nothing(store: LogStore) -> None:
    """Upserts of the same keys from two threads leave each key once, beside appended rows."""
    BatchWriter(store, schema=SCHEMA).append([{"id": -1, "site": "x"}])

    def upsert(name: str) -> None:
        table = BatchWriter(store)
        for number in range(4):
            table.merge([{"id": number, "site": name}], on="id")

    def append() -> None:
        table = BatchWriter(store)
        for number in range(100, 104):
            table.append([{"id": number, "site": "appended"}])

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(upsert, "a"), pool.submit(upsert, "b"), pool.submit(append)]:
            done.result()

    assert ids(store) == [-1, 0, 1, 2, 3, 100, 101, 102, 103]
    assert snapshot(store).version == 13
