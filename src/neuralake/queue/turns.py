"""Processes take turns at a file's write lock, in the order in which they come.

SQLite's own way to wait is to sleep, up to 0.1 s, and to look again: a process that commits all the
time then always finds the lock free before the others look, and their appends take as long as half
a second. Here who waits stands at a gate that the one before must pass again, and looks every
fraction of a millisecond.

A courtesy, not a lock: SQLite's lock is the lock. Whoever does not get a turn within a second
(somebody is paused in the middle of one) goes on without, and waits for SQLite.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Turns"]

_LOOK_S = 0.0003
_LOOKS_MAX = 3000  # About a second.


class Turns:
    """The place of one connection among those to the file `path`. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._never = threading.Event()
        self._handles: list[int] = []
        try:
            for name in ("gate", "turn"):
                aside = path.with_name(f"{path.name}-{name}")
                self._handles.append(os.open(aside, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError:
            self.close()  # A disk without room: then there are no turns.

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for our turn, and have it until the block ends."""
        if not self._handles:
            yield
            return
        gate, turn = self._handles
        try:
            # Who holds the turn must come by the gate to have another; we are there first.
            if self._take(gate):
                self._take(turn)
                fcntl.flock(gate, fcntl.LOCK_UN)
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the place up."""
        while self._handles:
            os.close(self._handles.pop())

    def _take(self, handle: int) -> bool:
        for _ in range(_LOOKS_MAX):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._never.wait(_LOOK_S)
            else:
                return True
        return False
