"""A handle of a file that SQLite has open in this process, to read what is in it now.

POSIX locks belong to the process: closing any handle of a file drops all that SQLite holds on it.
So there is one handle for a file and process, however many queues look, and it is closed behind the
connections of the last one.
"""

from __future__ import annotations

import os
import threading

__all__ = ["KeptHandle"]

_Identity = tuple[int, int]

_lock = threading.Lock()
# Handles, and how many use them.
_kept: dict[_Identity, tuple[int, int]] = {}


class KeptHandle:
    """The file that is at `name` now. Close it behind all connections of its user to the file."""

    def __init__(self, name: str) -> None:
        with _lock:
            found = os.stat(name)  # noqa: PTH116 of the same kind as those below
            self._identity = found.st_dev, found.st_ino
            handle, users = _kept.get(self._identity, (-1, 0))
            if not users:
                handle = os.open(name, os.O_RDONLY)
                opened = os.fstat(handle)
                self._identity = opened.st_dev, opened.st_ino
                users = _kept.get(self._identity, (handle, 0))[1]
            self._handle = handle
            _kept[self._identity] = handle, users + 1

    def begin(self, length: int) -> bytes:
        """The first `length` bytes, or as many as there are."""
        return os.pread(self._handle, length, 0)

    def close(self) -> None:
        with _lock:
            handle, users = _kept.pop(self._identity)
            if users > 1:
                _kept[self._identity] = handle, users - 1
            else:
                os.close(handle)
