"""The servers of these tests are on this machine's loopback alone, and none outlives its test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # It ships no type information.
from aws_account import AwsAccount

SUPPORT = Path(__file__).parents[1] / "support"

# Starts both servers, tells which processes they are, and waits to be killed.
HOLDER = """
import psutil, sys
from dynamodb_server import with_dynamodb
from s3_server import s3_account
with s3_account() as s3, with_dynamodb(s3):
    print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    sys.stdin.read()
"""


def test_both_servers_listen_on_loopback_and_nowhere_else(aws: AwsAccount) -> None:
    programs = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.name() in ("versitygw", "java")
    ]
    listening = [
        address.laddr.ip
        for program in programs
        for address in program.net_connections()
        if address.status == psutil.CONN_LISTEN
    ]

    # Java writes the IPv4 address as IPv6.
    assert sorted(listening) == ["127.0.0.1", "::ffff:127.0.0.1"]


def test_servers_end_when_the_process_that_started_them_is_killed() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    with holder:
        assert holder.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in holder.stdout.readline().split()]
        holder.kill()
    # Two lifelines and two servers; they are no children of ours: psutil looks until they end.
    _, alive = psutil.wait_procs(processes, timeout=60)

    assert len(processes) == 4
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_missing_toolchain_is_named_with_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "service_builds.py")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/nowhere"},
    )

    assert done.returncode == 1
    for tool in ("go", "java", "javac", "mvn"):
        assert f"{tool} is missing" in done.stderr
    assert "apt-get install" in done.stderr
