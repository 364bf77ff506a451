"""One platform per lake: a lock that the operating system drops when its holder dies.

The file holds the holder's pid, for people; whether it is held is what counts. A file left behind
by a killed process locks nobody out.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType

from neuralake.errors import UsageError

__all__ = ["LakeLock", "running_pid"]

_FILE_NAME = "up.lock"
_TRIES = 5
_TRY_AGAIN_S = 0.02


class LakeLock:
    """Held between `with LakeLock(folder):` and its end.

    Raises:
        UsageError: another process holds it; with its `pid`.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE_NAME
        self._descriptor = -1

    def __enter__(self) -> LakeLock:
        # As the queue makes it, which lives there too: for the owner alone.
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not inheritable (Python's default): a child that outlived us must not hold our lock.
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        if not _take(descriptor):
            pid = _read_pid(descriptor)
            os.close(descriptor)
            raise UsageError(
                f"A platform already runs on this lake: process {pid}. Stop it first "
                f"(kill {pid}), or give this one another lake.root. Lock: {self._file}.",
                pid=pid,
                file=str(self._file),
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: removing it would let two processes lock two files of one name.
        os.close(self._descriptor)


def running_pid(folder: Path) -> int | None:
    """The process that holds the lock of `folder`; None if nobody does."""
    try:
        descriptor = os.open(folder / _FILE_NAME, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(descriptor)
    finally:
        os.close(descriptor)
    return None


def _take(descriptor: int) -> bool:
    """Lock it, if need be at the second or third try: `running_pid` holds it for a moment."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(_TRY_AGAIN_S)
        else:
            return True
    return False


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
    return int(text) if text.isdigit() else None
