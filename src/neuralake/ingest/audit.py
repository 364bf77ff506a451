"""Who wrote what, and who was refused: one JSON line for each request that wants to write.

    {"time": "2026-11-27T10:00:00.123Z", "token": "1f0c…", "remote": "10.0.0.7",
     "table": "lab.spikes", "status": 202, "rows": 100, "position": 17, "key": "…"}

No row and no secret is in it. It is written within a tenth of a second and not synced: it tells
who is there, and promises nothing about rows. Two files of `bytes_max` are kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["AuditLog"]

_FLUSH_S = 0.1
_log = logging.getLogger(__name__)


class AuditLog:
    """Appends to the file at `path`, for its owner's eyes. Use it from one event loop.

    Several processes may write to one file.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self._path, self._bytes_max = path, bytes_max
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_failing = False

    def note(self, now_s: float, **facts: Any) -> None:
        """Write a line soon; facts that are None are left out."""
        time = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds")
        told = {name: fact for name, fact in facts.items() if fact is not None}
        line = {"time": time.replace("+00:00", "Z"), **told}
        self._lines.append(msgspec.json.encode(line) + b"\n")
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what was noted."""
        self._timer = None
        lines, self._lines = b"".join(self._lines), []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            try:
                # One call, which other processes' lines come before or after, never between.
                os.write(handle, lines)
                if os.fstat(handle).st_size > self._bytes_max:
                    self._begin_anew(handle)
            finally:
                os.close(handle)
            self._is_failing = False
        except OSError as error:
            # Rows go on being stored: a full disk is told by the queue, and once here.
            if not self._is_failing:
                _log.error("The audit log %s cannot be written: %s", self._path, error)
            self._is_failing = True

    def _begin_anew(self, handle: int) -> None:
        """Put the file of `handle` aside, unless another process does or did so."""
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == self._path.stat().st_ino:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
