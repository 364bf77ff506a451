"""A folder and a lock table in memory that watch over the rules of a log.

An entry that was visible never changes, and nothing but the owner's bytes is put under a version.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from stepping import stepping

from neuralake.clock import ManualClock
from neuralake.storage import Bytes, CoordinatedStore, LockEntry, MemoryLocks, MemoryStore

__all__ = ["TABLE_PATH", "LockWorld", "WatchedStore", "entry"]

TABLE_PATH = "s3://bucket/table"
_ENTRY = re.compile(r"_delta_log/\d{20}\.json")
_DAY_S = 24 * 3600


def entry(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


class WatchedStore(MemoryStore):
    """Fails the test when a log entry is replaced by another one."""

    def _keep(self, name: str, data: Bytes) -> None:
        before = self._files.get(name)
        if _ENTRY.fullmatch(name) and before is not None:
            assert before.data == data, f"{name} was {before.data!r}, and was overwritten"
        super()._keep(name, data)


class LockWorld:
    """One table's files and locks, and the stores of its processes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.files = WatchedStore("table", clock=self.clock)
        self.locks = MemoryLocks()

    def store(self, step: Callable[[str], None] = lambda _what: None) -> CoordinatedStore:
        """The store of a new process, which calls `step` around each of its requests."""
        return CoordinatedStore(
            stepping(self.files, step),
            stepping(self.locks, step),
            table_path=TABLE_PATH,
            clock=self.clock,
        )

    def begin(self, *versions: int) -> None:
        """A log with these entries, committed and done."""
        for version in versions:
            self.store().put_if_absent(entry(version), b"entry %d" % version)

    def log(self) -> dict[int, bytes]:
        """The entries as a reader of the files alone sees them."""
        return {
            int(name[11:31]): self.files.read(name) or b""
            for name in (file.name for file in self.files.files())
            if _ENTRY.fullmatch(name)
        }

    def unfinished(self) -> list[LockEntry]:
        return [entry for entry in self.locks.newest(TABLE_PATH) if not entry.complete]

    def a_day_passes(self) -> None:
        self.clock.advance(_DAY_S + 1)
        self.locks.expire(self.clock.now_s())
