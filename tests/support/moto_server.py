"""moto as a server: S3 and DynamoDB for the default run, which needs nothing but Python.

Correct and atomic, but slow and in one thread (`moto_child.py`): for behaviour, never for speed.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aws_account import AwsAccount
from service_process import ServiceProcess

__all__ = ["moto_account"]

CHILD = str(Path(__file__).with_name("moto_child.py"))


@contextlib.contextmanager
def moto_account() -> Iterator[AwsAccount]:
    """A server of this test's own, empty; it is gone after the context."""
    with (
        tempfile.TemporaryDirectory(prefix="neuralake-moto-") as folder,
        ServiceProcess.running("moto", [sys.executable, CHILD], Path(folder)) as process,
    ):
        endpoint = f"http://127.0.0.1:{process.printed_port()}"
        account = AwsAccount(s3_endpoint=endpoint, dynamodb_endpoint=endpoint)
        process.wait_for(account.client("s3").list_buckets)
        yield account
