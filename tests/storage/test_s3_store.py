"""What S3 is asked for: how often, and with which safety before the first commit."""

from __future__ import annotations

import io
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aws_account import AwsAccount
from canned_server import Answer, canned
from store_behaviour import entry, fail_after

from neuralake.delta import TableLog, create_table
from neuralake.errors import SettingsError, UnsupportedFeature
from neuralake.settings import StorageProfile
from neuralake.storage import CoordinatedStore, S3Store, open_store
from neuralake.storage.ranged import END_BYTES

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def store(account: AwsAccount) -> S3Store:
    found = open_store(f"s3://{account.make_bucket()}/lake/t", environment=account.environment())
    assert isinstance(found, S3Store)
    return found


@pytest.fixture
def coordinated(account: AwsAccount) -> CoordinatedStore:
    profile = StorageProfile(
        uri=f"s3://{account.make_bucket()}/",
        coordination="dynamodb",
        lock_table=account.make_lock_table(),
    )
    found = open_store(f"{profile.uri}lake/t", [profile], account.environment())
    assert isinstance(found, CoordinatedStore)
    return found


def appends(store: S3Store | CoordinatedStore, count: int) -> Counter[str]:
    """Requests of so many appends through one handle, after the first."""
    create_table(store, SCHEMA)
    log = TableLog.open(store)
    log.append(pa.table({"n": [0]}, schema=SCHEMA))
    before = store.requests
    for number in range(count):
        log.append(pa.table({"n": [number]}, schema=SCHEMA))
    return store.requests - before


def test_a_steady_append_is_two_requests(store: S3Store) -> None:
    assert appends(store, 5) == {"put": 5, "put_if_absent": 5}


def test_a_lock_table_costs_two_requests_more_to_each_server(coordinated: CoordinatedStore) -> None:
    assert appends(coordinated, 5) == {
        "put": 10,  # Data, and the entry aside.
        "head": 5,
        "put_if_absent": 5,
        "lock_put": 5,
        "lock_complete": 5,
    }


def test_looking_for_the_next_entry_is_one_request(store: S3Store) -> None:
    store.put_if_absent(entry(0), b"")
    before = store.requests
    store.read(entry(1))
    store.names("_delta_log", after=entry(0)[11:])

    assert store.requests - before == {"get": 1, "list": 1}


def test_a_small_file_is_opened_and_read_with_one_request(store: S3Store) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"n": range(1000)}), buffer)
    store.put({"file.parquet": buffer.getvalue()})
    before = store.requests
    with store.open("file.parquet") as file:
        assert pq.ParquetFile(file).read().num_rows == 1000

    assert store.requests - before == {"get": 1}


def test_a_large_file_is_read_with_few_requests(store: S3Store) -> None:
    """Going through it, reads grow to 16 MiB; one column of many fetches little else."""
    rows = 1_000_000
    table = pa.table({name: range(rows) for name in "abcde"})
    with store.create("large.parquet") as sink:
        pq.write_table(
            table, sink, row_group_size=100_000, compression="none", use_dictionary=False
        )
    before = store.requests
    with store.open("large.parquet") as file:
        read = sum(batch.num_rows for batch in pq.ParquetFile(file).iter_batches(100_000))
        groups = pq.ParquetFile(file).num_row_groups
    whole = (store.requests - before)["get"]

    assert (read, groups) == (rows, 10)
    size = next(file.bytes for file in store.files() if file.name == "large.parquet")
    assert size > 30 * 1024 * 1024
    assert whole <= 8


def test_the_end_that_comes_with_the_first_request_is_not_fetched_again(store: S3Store) -> None:
    data = bytes(range(256)) * (2 * END_BYTES // 256)
    store.put({"file": data})
    before = store.requests
    with store.open("file") as file:
        assert file is not None
        file.seek(END_BYTES)
        assert file.read() == data[END_BYTES:]
        assert store.requests - before == {"get": 1}
        file.seek(END_BYTES - 10)
        assert file.read(20) == data[END_BYTES - 10 : END_BYTES + 10]
        assert store.requests - before == {"get": 2}


def test_an_aborted_upload_leaves_no_parts_that_cost(account: AwsAccount, store: S3Store) -> None:
    with pytest.raises(KeyError, match="ours"):
        fail_after(store, "large", [b"x" * 1_000_000] * 20)

    bucket = store.uri.split("/")[2]
    assert "Uploads" not in account.client("s3").list_multipart_uploads(Bucket=bucket)


def test_many_files_are_removed_with_one_request(store: S3Store) -> None:
    store.put({f"file-{number}": b"" for number in range(50)})
    before = store.requests
    store.remove(f"file-{number}" for number in range(50))

    assert store.requests - before == {"delete": 1}
    assert [*store.files()] == []


def test_a_server_that_ignores_if_none_match_gets_no_table() -> None:
    """It would let two commits of one version overwrite each other."""
    with canned([Answer(200)]) as (endpoint, seen):
        profile = StorageProfile(uri="s3://lake/", endpoint=endpoint)
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        store = open_store("s3://lake/t", [profile], keys)
        with pytest.raises(UnsupportedFeature, match="ignores If-None-Match") as caught:
            store.put_if_absent(entry(0), b"{}")

    assert caught.value.features == ["conditional put"]
    assert not any(entry(0) in request for request in seen)


def test_a_check_says_what_is_wrong_before_anybody_needs_it(
    store: S3Store, coordinated: CoordinatedStore, account: AwsAccount
) -> None:
    store.check()
    coordinated.check()
    assert [*store.files()] == [*coordinated.files()] == []

    bad = open_store("s3://none-such-bucket/t", environment=account.environment())
    assert isinstance(bad, S3Store)
    with pytest.raises(SettingsError, match="no bucket"):
        bad.check()
    profile = StorageProfile(uri=store.uri, coordination="dynamodb", lock_table="none-such")
    unlocked = open_store(store.uri, [profile], account.environment())
    assert isinstance(unlocked, CoordinatedStore)
    with pytest.raises(SettingsError, match="no DynamoDB table"):
        unlocked.check()
