"""Fold the write-ahead log into the queue's file without stopping commits for long.

Left to itself, SQLite folds inside some unlucky commit: 16 MiB of log held every append of that
moment for 50 to 120 ms. Here a thread folds beside the commits, and what came meanwhile is folded
between two commits, in a few ms, so that the log begins anew and its space is used again.
Only speed and space depend on it: what is committed is safe in the log.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["LogFolder"]

# Each fold costs two fsyncs and writes each page once, however often it was changed: worth
# thousands of small appends. Twice as much changes little, and the log is read by every reader.
_FOLD_BYTES = 16 * 1024 * 1024
# A pass leaves what was committed while it ran; three leave little.
_PASSES = 3
# Some reader was always in the middle of the log: then one commit waits a moment for the readers.
_LOG_BYTES_MAX = 128 * 1024 * 1024
_READERS_MS_MAX = 200
# What a commit adds to the log besides payloads: leaf pages of the tables, a third for fill.
_COMMIT_BYTES = 4 * 4096


class LogFolder:
    """Owns `connection`, on a thread of its own, and shares `writer` with the committer's thread.

    Args:
        log: the log's file, whose length shows when folding did not succeed for long.
        lock_s_max: what `writer` waits for locks, restored after a shorter wait.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        writer: sqlite3.Connection,
        *,
        log: Path,
        lock_s_max: float,
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._log = log
        self._lock_s_max = lock_s_max
        self._bytes = 0
        self._wanted = threading.Event()
        self._is_wanted = False
        self._folded = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="neuralake-queue-fold", daemon=True)
        self._thread.start()

    def committed(self, payload_bytes: int) -> None:
        """Called after each commit, on the committer's thread, outside of transactions."""
        self._bytes += payload_bytes * 4 // 3 + _COMMIT_BYTES
        if self._folded.is_set():
            self._folded.clear()
            self._is_wanted = False
            self._bytes = 0
            self._finish()
        elif self._bytes > _FOLD_BYTES and not self._is_wanted:
            self._is_wanted = True
            self._wanted.set()

    def close(self) -> None:
        """End the thread and its connection; the log stays as it is."""
        self._closed = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while self._wanted.wait() and not self._closed:
            self._wanted.clear()
            # A hindrance now (disk full, somebody else folding) is met again, or gone, next time.
            with suppress(sqlite3.Error):
                for _ in range(_PASSES):
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._folded.set()
        self._connection.close()

    def _finish(self) -> None:
        # Suppressed: see `_run`.
        with suppress(sqlite3.Error, OSError):
            if self._log.stat().st_size <= _LOG_BYTES_MAX:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            else:
                self._wait_for_readers()

    def _wait_for_readers(self) -> None:
        self._writer.execute(f"PRAGMA busy_timeout = {_READERS_MS_MAX}")
        try:
            self._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        finally:
            self._writer.execute(f"PRAGMA busy_timeout = {int(self._lock_s_max * 1000)}")
