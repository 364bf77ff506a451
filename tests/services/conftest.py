"""Real servers for these tests: one S3 and one DynamoDB per test process, buckets per test.

They run only when asked for by name (`pytest -m services`, as `make test-services` does): they need
Go, Java and Maven, and what they lack is an error here, never a skip.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from aws_account import AwsAccount
from dynamodb_server import with_dynamodb
from s3_server import s3_account
from service_table import Coordination, ServiceTable

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.services)
    if "services" not in config.getoption("markexpr"):
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)
    # A run whose time is bounded sees something of everything: the long table of steps comes last.
    items.sort(key=lambda item: item.path.name == "test_each_step.py")


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsAccount]:
    """versitygw and DynamoDB Local."""
    with s3_account() as s3, with_dynamodb(s3) as account:
        yield account


@pytest.fixture(params=get_args(Coordination))
def table(aws: AwsAccount, request: pytest.FixtureRequest) -> ServiceTable:
    """Where a table can be made, in each way that writers agree on S3."""
    lock_table = aws.make_lock_table() if request.param == "dynamodb" else ""
    return ServiceTable(aws, aws.make_bucket(), request.param, lock_table)
