"""Files of the queue that are removed, replaced or cut while open: nothing is acknowledged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from neuralake.errors import NeedsAttention, Unavailable, UsageError
from neuralake.queue import SqliteQueue
from neuralake.queue.kept_handle import KeptHandle

ENDS = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def payloads(queue: SqliteQueue) -> list[bytes]:
    return [envelope.payload for envelope in queue.read("t", after=0)]


def replace(path: Path) -> None:
    """Put a copy in the place of a file, as an editor or a restore does."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


def write_without_sync(queue: SqliteQueue) -> None:
    """As a trim and the renewal of a lease do."""
    with queue._file.trimmer():
        pytest.fail("It was let in.")


def assert_refuses(queue: SqliteQueue, name: str) -> None:
    for call in (
        lambda: queue.append("t", b"y", 1),
        lambda: queue.read("t", after=0),
        lambda: queue.bounds("t"),
        queue.topics,
        queue.probe,
        lambda: write_without_sync(queue),
        queue._file.give_back,
    ):
        with pytest.raises(
            Unavailable, match=f"(replaced|cut) while they were open: {name}\\. "
        ) as caught:
            call()
        assert caught.value.retry_after_s == 5


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("change", [Path.unlink, replace])
def test_nothing_is_taken_or_given(path: Path, end: str, change: Callable[[Path], None]) -> None:
    with closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)
        change(beside(path, end))

        assert_refuses(queue, f"queue.sqlite{end}")


def older(path: Path) -> None:
    """What was in the file some commits ago."""
    shutil.copyfile(path.with_name("older"), path)


def another(path: Path) -> None:
    with closing(SqliteQueue(path.with_name("another"))) as queue:
        queue.append("t", b"z", 1)
    shutil.copyfile(path.with_name("another"), path)


def cut(path: Path) -> None:
    os.truncate(path, 0)


def shorten(path: Path) -> None:
    """The log keeps its length, so most of its end may be of no use."""
    os.truncate(path, 4096)


@pytest.mark.parametrize(
    ("end", "change"), [("", older), ("", another), ("", cut), ("-wal", cut), ("-wal", shorten)]
)
def test_what_is_written_over_in_its_place_is_noticed(
    path: Path, end: str, change: Callable[[Path], None]
) -> None:
    """As `cp` does it, and `>` to make room: it is the same file, and SQLite goes on with it."""
    with closing(SqliteQueue(path)) as queue:
        used(queue)
        shutil.copyfile(path, path.with_name("older"))
        used(queue)
        change(beside(path, end))

        assert_refuses(queue, f"queue.sqlite{end}")


class Paused(KeptHandle):
    """The first look is held up behind its reading, until others have looked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.has_read, self.go_on = threading.Event(), threading.Event()

    def begin(self, length: int) -> bytes:
        found = super().begin(length)
        if not self.has_read.is_set():
            self.has_read.set()
            assert self.go_on.wait(60)
        return found


def test_a_look_that_is_overtaken_by_a_later_one_is_no_alarm(path: Path) -> None:
    """It compares what it has read with what was known then, not with what came after."""
    with closing(SqliteQueue(path)) as queue, ThreadPoolExecutor(1) as other:
        used(queue)
        paused, files = Paused(str(path)), queue._file._files
        handle, files._file_handle = files._file_handle, paused
        early = other.submit(queue.bounds, "t")
        assert paused.has_read.wait(60)
        used(queue)
        queue.bounds("t")
        paused.go_on.set()

        assert early.result(60).last == 8
        files._file_handle = handle
        paused.close()


def used(queue: SqliteQueue) -> None:
    """As a server and a writer do, and its log is put into the file."""
    for _ in range(3):
        last = queue.append("t", bytes(20_000), 1).position
        queue.trim("t", through=last - 1, appended_before_s=1e12)
    for step in ("FULL", "PASSIVE"):
        queue._file._trimmer.execute(f"PRAGMA wal_checkpoint({step})").fetchall()
    queue.append("t", b"in the log", 1)


@pytest.mark.parametrize(
    "order", ["PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(RESTART)", "VACUUM"]
)
def test_what_others_may_do_to_an_open_queue_is_no_harm(path: Path, order: str) -> None:
    with closing(SqliteQueue(path)) as queue:
        for _ in range(3):
            used(queue)
            subprocess.run([sys.executable, "-c", _ORDER, str(path), order], timeout=60, check=True)
            assert queue.bounds("t").rows == 2
            queue.append("t", b"x", 1)
            queue.trim("t", through=queue.bounds("t").last, appended_before_s=1e12)


_ORDER = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60).execute(sys.argv[2]).fetchall()
"""


def test_a_queue_that_is_closed_takes_no_locks_from_another(path: Path) -> None:
    """Locks are the process's: a handle that is closed takes all of them along."""
    with closing(SqliteQueue(path)) as queue, queue._file.writer():
        SqliteQueue(path).close()
        other = subprocess.run(
            [sys.executable, "-c", _LOCK, str(path)], timeout=60, check=False, capture_output=True
        )
    assert b"database is locked" in other.stderr


_LOCK = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0).execute("BEGIN IMMEDIATE")
"""


def test_a_folder_that_was_moved_away_is_noticed_and_gone_on_with_when_it_is_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lake" / "queue.sqlite"
    with closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)
        path.parent.rename(tmp_path / "elsewhere")
        assert_refuses(queue, "queue.sqlite, queue.sqlite-wal, queue.sqlite-shm")

        (tmp_path / "elsewhere").rename(path.parent)
        assert queue.append("t", b"y", 1).position == 2
        assert payloads(queue) == [b"x", b"y"]


def test_a_queue_behind_a_link_is_at_home(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path.symlink_to(tmp_path / "disk" / "real.sqlite")
    with closing(SqliteQueue(path)) as queue:
        assert queue.append("t", b"x", 1).position == 1
        path.unlink()
        assert_refuses(queue, "queue.sqlite")


@pytest.mark.parametrize("ends", [["-wal"], ["-shm"], ["-wal", "-shm"]])
def test_what_a_removed_log_holds_is_there_after_a_kill(path: Path, ends: list[str]) -> None:
    """The rows are folded into the file when the removal is noticed."""
    child = [sys.executable, "-c", _REMOVED, str(path), *ends]
    told = subprocess.run(child, capture_output=True, text=True, timeout=60, check=False)

    assert told.returncode == 9, told.stderr
    with closing(SqliteQueue(path)) as queue:
        assert payloads(queue) == [b"x"]
        assert queue.append("t", b"y", 1).position == 2


_REMOVED = """
import os, sys
from pathlib import Path
from neuralake.errors import Unavailable
from neuralake.queue import SqliteQueue

path = Path(sys.argv[1])
queue = SqliteQueue(path)
queue.append("t", b"x", 1)
for end in sys.argv[2:]:
    os.unlink(f"{path}{end}")
try:
    queue.append("t", b"void", 1)
except Unavailable:
    os._exit(9)
"""


def test_a_log_is_not_folded_under_somebody_who_has_committed_to_another(path: Path) -> None:
    """What was in the first log is lost; what the other process acknowledged is not, too."""
    assert run(_OTHER, path, "append") == "[b'new']\n"


def test_rows_that_are_lost_with_a_log_are_told_of_loudly(path: Path) -> None:
    """Each call and the queue's health say so, and the log of the server does, once."""
    SqliteQueue(path).close()
    told = subprocess.run(
        [sys.executable, "-c", _OTHER, str(path), "tell"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    reason, message = told.stdout.splitlines()
    lost = "Rows are lost: another process has gone on without what the removed log held"
    assert reason.startswith("its log was removed, and acknowledged rows are lost with it: ")
    assert lost in message
    assert told.stderr.count(lost) == 1


def test_a_log_is_not_folded_under_somebody_who_has_the_file_open(path: Path) -> None:
    """It has pages of the file in its memory: it would mix them with those of our log."""
    assert run(_OTHER, path, "wait") == "[b'before']\n"


def test_a_log_is_folded_after_somebody_has_only_looked(path: Path) -> None:
    assert run(_OTHER, path, "read") == "[b'before']\n"


def run(code: str, path: Path, what: str) -> str:
    """What is in the queue after `code`, which ends in an orderly way."""
    SqliteQueue(path).close()  # Its tables are in the file, so that the next process finds them.
    subprocess.run([sys.executable, "-c", code, str(path), what], timeout=60, check=True)
    with closing(SqliteQueue(path)) as queue:
        return f"{payloads(queue)}\n"


# Processes, because within one SQLite shares what it knows of a file.
_OTHER = """
import os, subprocess, sys
from neuralake.errors import Unavailable
from neuralake.queue import SqliteQueue

path, what = sys.argv[1:]
queue = SqliteQueue(path)
if what == "leave":
    queue.append("t", b"new", 1)
    os._exit(0)
if what in ("look", "stay"):
    queue.read("t", after=0)
    if what == "stay":
        print("open", flush=True)
        sys.stdin.read()
    os._exit(0)
queue.append("t", b"before", 1)
for end in ("-wal", "-shm"):
    os.unlink(path + end)

def refused():
    try:
        queue.append("t", b"void", 1)
    except Unavailable as error:
        return error
    raise AssertionError("it was acknowledged")

then = {"append": "leave", "tell": "leave", "read": "look", "wait": "stay"}[what]
command = [sys.executable, "-c", CODE, path, then]
if what == "wait":
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        before = open(path, "rb").read()
        refused()
        assert open(path, "rb").read() == before
        other.stdin.close()
        other.wait()
    refused()
    assert open(path, "rb").read() != before
else:
    subprocess.run(command, check=True)
first, second = refused(), refused()
if what == "tell":
    print(first.facts["reason"], second.message, sep="\\n")
queue.close()
"""
_OTHER = f"CODE = {_OTHER!r}\n{_OTHER}"


def test_a_log_stays_that_somebody_goes_on_with_by_another_index(path: Path) -> None:
    """Only the index is removed: the other process appends to the same log, and has closed."""
    subprocess.run([sys.executable, "-c", _SAME_LOG, str(path)], timeout=60, check=True)

    with closing(SqliteQueue(path)) as queue:
        assert payloads(queue) == [b"before", b"new"]


_SAME_LOG = """
import os, subprocess, sys
from neuralake.queue import SqliteQueue

queue = SqliteQueue(sys.argv[1])
if len(sys.argv) > 2:
    queue.append("t", b"new", 1)
    queue.close()
    sys.exit()
queue.append("t", b"before", 1)
os.unlink(sys.argv[1] + "-shm")
subprocess.run([sys.executable, "-c", CODE, sys.argv[1], "other"], check=True)
queue.close()
"""
_SAME_LOG = f"CODE = {_SAME_LOG!r}\n{_SAME_LOG}"


def test_what_was_committed_while_the_file_went_is_not_acknowledged(path: Path) -> None:
    """The file is removed in the middle of a transaction: whether it is stored is unknown."""
    with closing(SqliteQueue(path)) as queue:
        writing = queue._file.writer()
        writing.__enter__()
        path.unlink()
        with pytest.raises(NeedsAttention, match="unknown"):
            writing.__exit__(None, None, None)


def test_a_log_without_its_file_is_not_taken_for_that_of_a_new_one(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)
        away = path.rename(path.with_name("away"))
        with pytest.raises(NeedsAttention, match=r"-wal and .*-payloads if .* start it") as caught:
            SqliteQueue(path)
        assert caught.value.found == [f"{path}-wal", f"{path}-shm"]
        assert not path.exists()
        away.rename(path)
        assert payloads(queue) == [b"x"]


def test_a_look_through_what_was_just_closed_says_so(path: Path) -> None:
    """A thread has found the queue open, and looks when its handles are closed."""
    queue = SqliteQueue(path)
    # Another process, so that the log stays, and nothing is gone.
    command = [sys.executable, "-c", _OTHER, str(path), "stay"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        queue.close()
        with pytest.raises(UsageError, match="closed"):
            queue._file.check_files()
        other.communicate(timeout=60)
