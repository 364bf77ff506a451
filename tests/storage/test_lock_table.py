"""The lock table in DynamoDB: its layout is Spark's, and it can be made."""

from __future__ import annotations

import pytest
from aws_account import REGION, AwsAccount

from neuralake.errors import SettingsError
from neuralake.storage import AlreadyThere, LockEntry
from neuralake.storage.access import Access, Credentials
from neuralake.storage.dynamodb import LockTable

PATH = "s3://bucket/table"


def table(account: AwsAccount, name: str) -> LockTable:
    credentials = Credentials(account.access_key, account.secret_key)
    access = Access(
        "bucket", "a test", lambda: credentials, REGION, lock_endpoint=account.dynamodb_endpoint
    )
    return LockTable(name, access)


def item(version: int, temp: str = "a") -> LockEntry:
    name = f"{version:020d}.json"
    return LockEntry(PATH, name, f".tmp/{name}.{temp}")


def test_items_are_as_spark_and_deltalake_write_them(account: AwsAccount) -> None:
    """Dumped from a table that both appended to: see docs/field-notes.md."""
    name = account.make_lock_table()
    locks = table(account, name)
    locks.put_if_absent(item(3))

    def stored() -> dict[str, object]:
        [found] = account.client("dynamodb").scan(TableName=name)["Items"]
        return dict(found)

    begun: dict[str, object] = {
        "tablePath": {"S": PATH},
        "fileName": {"S": "00000000000000000003.json"},
        "tempPath": {"S": ".tmp/00000000000000000003.json.a"},
        "complete": {"S": "false"},
    }
    assert stored() == begun
    assert locks.complete(item(3), expire_s=1_800_000_000)
    assert stored() == begun | {"complete": {"S": "true"}, "expireTime": {"N": "1800000000"}}
    found = locks.get(PATH, "00000000000000000003.json")
    assert found == LockEntry(PATH, item(3).file_name, item(3).temp_path, True, 1_800_000_000)


def test_a_version_has_one_holder_and_only_it_is_completed_or_removed(account: AwsAccount) -> None:
    locks = table(account, account.make_lock_table())
    locks.put_if_absent(item(1, "mine"))
    locks.put_if_absent(item(1, "mine"))
    with pytest.raises(AlreadyThere):
        locks.put_if_absent(item(1, "theirs"))

    assert not locks.complete(item(1, "theirs"), expire_s=0)
    assert not locks.remove(item(1, "theirs"))
    assert not locks.complete(item(2), expire_s=0)
    assert locks.get(PATH, item(1).file_name) == item(1, "mine")
    assert locks.get("s3a://bucket/table", item(1).file_name) is None
    assert locks.remove(item(1, "mine"))
    assert locks.get(PATH, item(1).file_name) is None


def test_the_newest_come_first_over_many_pages(account: AwsAccount) -> None:
    locks = table(account, account.make_lock_table())
    for version in range(45):
        locks.put_if_absent(item(version))
    before = locks.requests

    assert next(locks.newest(PATH)) == item(44)
    assert locks.requests - before == {"lock_query": 1}
    assert [*locks.newest(PATH)] == [item(version) for version in reversed(range(45))]
    assert [*locks.newest("s3a://bucket/table")] == []


def test_it_is_made_once_with_time_to_live_and_paid_by_request(account: AwsAccount) -> None:
    locks = table(account, "made-by-init")
    with pytest.raises(SettingsError, match="storage init") as caught:
        locks.put_if_absent(item(0))
    assert caught.value.lock_table == "made-by-init"

    assert locks.create()
    assert not locks.create()
    client = account.client("dynamodb")
    found = client.describe_table(TableName="made-by-init")["Table"]
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    expiry = client.describe_time_to_live(TableName="made-by-init")["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expireTime"}
    locks.put_if_absent(item(0))


def test_a_table_with_other_keys_is_no_lock_table(account: AwsAccount) -> None:
    account.client("dynamodb").create_table(
        TableName="users",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(SettingsError, match="other keys"):
        table(account, "users").create()
