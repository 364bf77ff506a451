from __future__ import annotations

from collections.abc import Iterator

import pytest
from aws_account import AwsAccount
from moto_server import moto_account


@pytest.fixture(scope="session")
def account() -> Iterator[AwsAccount]:
    """S3 and DynamoDB in one process, for all tests of this folder."""
    with moto_account() as account:
        yield account
