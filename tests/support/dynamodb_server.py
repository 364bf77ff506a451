"""DynamoDB Local (Java), beside a real S3 server: what the DynamoDB mode runs against."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aws_account import AwsAccount
from service_builds import dynamodb_local
from service_process import ServiceProcess

__all__ = ["with_dynamodb"]


@contextlib.contextmanager
def with_dynamodb(account: AwsAccount) -> Iterator[AwsAccount]:
    """`account` with a DynamoDB of this test's own, empty; gone after the context."""
    with tempfile.TemporaryDirectory(prefix="neuralake-dynamodb-") as folder:
        jars = dynamodb_local()
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", f"-Djava.library.path={jars}"]
        command += ["-cp", f"{jars}/classes:{jars}/*", "LocalDynamoDB"]
        # Shared: without it each access key and region sees tables of its own.
        command += ["-sharedDb", "-dbPath", folder, "-disableTelemetry"]
        with ServiceProcess.running("dynamodb", command, Path(folder)) as process:
            endpoint = f"http://127.0.0.1:{process.printed_port()}"
            account = dataclasses.replace(account, dynamodb_endpoint=endpoint)
            process.wait_for(account.client("dynamodb").list_tables)
            yield account
