"""versitygw: a real S3 server over a local folder, whose put-if-absent holds under races."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aws_account import REGION, AwsAccount
from kept_port import kept_port
from service_builds import versitygw
from service_process import ServiceError, ServiceProcess

__all__ = ["s3_account"]

# It can listen on any free port, but does not say which: we choose, and somebody may be quicker.
TRIES = 3


@contextlib.contextmanager
def s3_account() -> Iterator[AwsAccount]:
    """A server of this test's own, empty; it and its data are gone after the context."""
    with (
        tempfile.TemporaryDirectory(prefix="neuralake-s3-") as folder,
        contextlib.ExitStack() as stack,
    ):
        for left in reversed(range(TRIES)):
            try:
                account = stack.enter_context(_started(Path(folder)))
                break
            except ServiceError:
                if not left:
                    raise
        yield account


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[AwsAccount]:
    port = kept_port()
    account = AwsAccount(s3_endpoint=f"http://127.0.0.1:{port}")
    data = folder / "data"
    data.mkdir(exist_ok=True)
    # Without --keep-alive it closes the connection after each request, as no S3 of the world does.
    command = [str(versitygw()), "--port", f"127.0.0.1:{port}", "--region", REGION]
    command += ["--keep-alive", "--quiet", "posix", str(data)]
    env = {"ROOT_ACCESS_KEY": account.access_key, "ROOT_SECRET_KEY": account.secret_key}
    with ServiceProcess.running("versitygw", command, folder, env=env) as process:
        process.wait_for(account.client("s3").list_buckets)
        yield account
