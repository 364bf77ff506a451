"""One platform per lake, and a dead one locks nobody out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab_project import eventually, kill

from neuralake.errors import UsageError
from neuralake.supervise import LakeLock, running_pid

HOLDER = """
import sys
from pathlib import Path
from neuralake.supervise import LakeLock
with LakeLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_platform_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with LakeLock(tmp_path / "state"):
        with pytest.raises(UsageError, match=f"process {os.getpid()}") as refused:
            LakeLock(tmp_path / "state").__enter__()

        assert refused.value.pid == os.getpid()
        assert running_pid(tmp_path / "state") == os.getpid()


def test_the_lock_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with LakeLock(tmp_path):
            pass

    assert running_pid(tmp_path) is None


def test_a_killed_platform_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The file is still there with the old pid; it counts for nothing."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert running_pid(tmp_path) == holder.pid
        kill(holder.pid)

    assert eventually(lambda: running_pid(tmp_path) is None)
    with LakeLock(tmp_path):
        assert running_pid(tmp_path) == os.getpid()


def test_a_lake_that_was_never_up_has_no_platform(tmp_path: Path) -> None:
    assert running_pid(tmp_path / "absent") is None


def test_what_lies_beside_the_lake_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The queue makes the same folder, and keeps rows in it; whoever comes first sets its mode."""
    folder = tmp_path / "lake" / ".neuralake"

    with LakeLock(folder):
        assert folder.stat().st_mode & 0o077 == 0
        assert next(folder.iterdir()).stat().st_mode & 0o077 == 0
