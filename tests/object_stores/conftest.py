"""One moto server for these tests; a bucket and a project for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_account import AwsAccount
from moto_server import moto_account
from store_lake import StoreLake


@pytest.fixture(scope="session")
def account() -> Iterator[AwsAccount]:
    with moto_account() as found:
        yield found


@pytest.fixture
def secrets(account: AwsAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has the account's key in its environment, as a person's shell would.

    Commands that it runs import the modules of a project, which no other test sees.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", account.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", account.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
    for name in ("lake", "tables"):
        sys.modules.pop(name, None)


@pytest.fixture(params=["conditional-put", "dynamodb"])
def lake(
    account: AwsAccount,
    secrets: None,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> StoreLake:
    """A project in a bucket, in each way that writers agree."""
    return StoreLake.make(account, tmp_path, request.param)
