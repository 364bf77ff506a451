"""Files of the queue that cannot be read, and a queue that is closed or opened meanwhile."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from neuralake.errors import NeedsAttention, NeuralakeError, Unavailable, UsageError
from neuralake.queue import SqliteQueue, kept_handle
from neuralake.queue.group import Submit
from neuralake.queue.kept_handle import KeptHandle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def payloads(queue: SqliteQueue) -> list[bytes]:
    return [envelope.payload for envelope in queue.read("t", after=0)]


def test_who_reads_while_the_queue_is_closed_keeps_what_is_read(path: Path) -> None:
    """With its locks, the last other process would fold the log, and begin the file anew."""
    queue = SqliteQueue(path)
    queue.append("t", b"x", 1)
    file = path.stat()
    with queue._file.reader() as first, queue._file.reader() as second:
        for reader in (first, second):
            reader.execute("BEGIN")
            assert reader.execute(_COUNT).fetchone() == (1,)
        queue.close()
        subprocess.run([sys.executable, "-c", _APPEND, str(path)], timeout=60, check=True)

        assert beside(path, "-wal").exists()
        assert [reader.execute(_COUNT).fetchone() for reader in (first, second)] == [(1,), (1,)]
    assert not beside(path, "-wal").exists(), "the last one folds it"
    assert (file.st_dev, file.st_ino) not in kept_handle._kept
    with closing(SqliteQueue(path)) as queue:
        assert payloads(queue) == [b"x", b"y"]


_COUNT = "SELECT count(*) FROM envelopes"
_APPEND = """
import sys
from neuralake.queue import SqliteQueue

queue = SqliteQueue(sys.argv[1])
queue.append("t", b"y", 1)
queue.close()
"""


def test_a_call_that_overlaps_with_close_is_told_of_that(path: Path) -> None:
    """It has found the queue open, and then the log gone: closing takes that along."""
    queue = SqliteQueue(path)
    queue.close()
    with pytest.raises(UsageError, match="closed"):
        queue._file.check_files()


class Unreadable(KeptHandle):
    """A disk that begins to break: from the look `whole` on, which is counted from 0."""

    def __init__(self, name: str, *, whole: int, code: int = errno.EIO) -> None:
        super().__init__(name)
        self.whole, self.code = whole, code

    def begin(self, length: int) -> bytes:
        self.whole -= 1
        if self.whole < 0:
            raise OSError(self.code, os.strerror(self.code))
        return super().begin(length)


@contextmanager
def unreadable(queue: SqliteQueue, *, whole: int, code: int = errno.EIO) -> Iterator[None]:
    files = queue._file._files
    sound, files._file_handle = (
        files._file_handle,
        Unreadable(str(queue._file.path), whole=whole, code=code),
    )
    try:
        yield
    finally:
        files._file_handle.close()
        files._file_handle = sound


def test_a_disk_that_cannot_be_read_behind_a_commit_takes_no_payload_along(path: Path) -> None:
    """The look there fails: whether the envelope is stored is unknown, so its file stays."""
    with closing(SqliteQueue(path, file_bytes_min=1000)) as queue:
        with (
            unreadable(queue, whole=1),
            pytest.raises(NeedsAttention, match=r"unknown\. .* looked at"),
        ):
            queue.append("t", b"x" * 5000, 1)
        with unreadable(queue, whole=0):
            for call in (lambda: queue.append("t", b"y", 1), lambda: queue.bounds("t")):
                with pytest.raises(Unavailable, match="looked at: Input/output error"):
                    call()

        assert payloads(queue) == [b"x" * 5000]


def test_a_group_is_not_stored_twice_for_a_look_behind_its_commit(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        with unreadable(queue, whole=1, code=errno.ESTALE):
            answers = queue._commit(
                [Submit("t", each, 1, None, None, None) for each in (b"x", b"y")]
            )

        assert [type(answer) for answer in answers] == [NeedsAttention, NeedsAttention]
        assert payloads(queue) == [b"x", b"y"]


def test_a_queue_whose_files_cannot_be_read_closes_and_leaves_its_log(path: Path) -> None:
    queue = SqliteQueue(path)
    queue.append("t", b"x", 1)
    queue._file._files._file_handle = Unreadable(str(path), whole=0)
    queue.close()

    assert beside(path, "-wal").exists()
    with closing(SqliteQueue(path)) as again:
        assert payloads(again) == [b"x"]


def test_a_queue_that_is_opened_once_more_without_its_index_says_so(path: Path) -> None:
    """SQLite shares the removed index within a process, and makes no other one."""
    with closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)
        beside(path, "-shm").unlink()
        with pytest.raises(Unavailable, match=r"while they were open: queue.sqlite-shm\. Restart"):
            SqliteQueue(path)


def test_a_queue_that_cannot_be_opened_leaves_nothing_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is out of handles, at each of its connections in turn."""
    SqliteQueue(path).close()
    connect = sqlite3.connect
    for room in range(3):
        opened: list[sqlite3.Connection] = []

        def limited(*args: Any, room: int = room, opened: Any = opened, **options: Any) -> Any:
            if len(opened) == room:
                raise sqlite3.OperationalError("unable to open database file")
            opened.append(connect(*args, **options))
            return opened[-1]

        monkeypatch.setattr(sqlite3, "connect", limited)
        with pytest.raises(NeuralakeError, match="unable to open"):
            SqliteQueue(path)
        assert len(opened) == room
        for each in opened:
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                each.execute("SELECT 1")
    assert not beside(path, "-wal").exists()
