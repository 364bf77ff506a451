"""The newest snapshot of a table, kept: each look reads only the entries that are new.

For those who read the same table again and again: opening a log at its checkpoint takes
milliseconds, looking for the next entry takes one question. What is given is immutable and shared
by all threads. Who was away for long, or finds another log in the place of the one that was read,
reads all of it anew.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from urllib.parse import unquote

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import decode_entry
from neuralake.delta.log import MissingEntry, entry_name, raw_entries_after
from neuralake.delta.snapshot import DataFile, Snapshot, data_file, snapshot
from neuralake.storage import LogStore

__all__ = ["Newest"]

# Log entries are cleaned up after hours at the earliest (`cleanup.py`).
_STALE_S = 1800.0
# By then there is a newer checkpoint to begin at.
_ENTRIES_MAX = 512
# Of larger tables the files would take tens of megabytes for as long as this lives.
_FILES_MAX = 50_000


class Newest:
    """Looks at the table in one store; for any number of threads, which take turns."""

    def __init__(self, store: LogStore, *, clock: Clock | None = None) -> None:
        self._store, self._clock = store, clock or SystemClock()
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        self._files: dict[str, DataFile] = {}
        self._stamp: str | None = None
        """Of the entry of the last version; None: not asked yet, or that entry is gone."""
        self._stamped_s = self._seen_s = (float("-inf"), float("-inf"))

    def snapshot(self) -> Snapshot:
        """The table as it is now, for reading: as `snapshot(store, to_read=True)`, also in what it
        raises."""
        with self._lock:
            began_s = self._now_s()
            found = self._advanced() if self._is_kept(began_s) else None
            if found is None:
                self._last = None  # If the next line raises, nothing is relied on.
                found = self._opened()
            self._seen_s = began_s
            return found

    def _is_kept(self, now_s: tuple[float, float]) -> bool:
        last = self._last
        return (
            last is not None
            and self._stamp is not None
            and _age_s(self._seen_s, now_s) <= _STALE_S
            and len(last.log.entries) <= _ENTRIES_MAX
            and len(self._files) <= _FILES_MAX
        )

    def _opened(self) -> Snapshot:
        found = snapshot(self._store, to_read=True)
        self._stamped_s = self._now_s()
        self._stamp = self._store.stamp(entry_name(found.version))
        if found.log.entries and found.log.entries[-1] != self._store.read(
            entry_name(found.version)
        ):
            self._stamp = None  # Replaced since it was read: the stamp is of another log.
        self._files = {unquote(file.path): file for file in found.files}
        self._last = found
        return found

    def _advanced(self) -> Snapshot | None:
        """The last one with what is new; None if the log is not the one that was read."""
        last = self._last
        assert last is not None  # noqa: S101 asked before; for mypy
        try:
            entries = [*raw_entries_after(self._store, last.version)]
        except MissingEntry:
            return None
        stamp = self._stamp
        if entries:
            stamp = self._store.stamp(entry_name(entries[-1][0]))
        # Asked last: while the old entry is there, all that was read is of its log.
        if (entries or self._is_due()) and not self._is_same(last.version):
            return None
        if not entries:
            return last
        self._last = None
        self._last = found = Snapshot(self._store, last.log.advanced(entries), to_read=True)
        self._take(found, entries)
        self._stamp = stamp
        return found

    def _is_due(self) -> bool:
        return _age_s(self._stamped_s, self._now_s()) >= self._store.stamp_age_s_max

    def _is_same(self, version: int) -> bool:
        self._stamped_s = self._now_s()
        return self._store.stamp(entry_name(version)) == self._stamp

    def _take(self, found: Snapshot, entries: Sequence[tuple[int, bytes]]) -> None:
        for version, data in entries:
            lines = decode_entry(data, version=version, uri=self._store.uri)
            # An entry may replace a path's deletion vector: removed and added, in any order.
            for line in lines:
                if line.remove is not None:
                    self._files.pop(unquote(line.remove.path), None)
            for line in lines:
                if line.add is not None:
                    self._files[unquote(line.add.path)] = data_file(line.add, found.state)
        found.know(self._files.values())

    def _now_s(self) -> tuple[float, float]:
        # Both clocks: the monotonic one stands still while a laptop sleeps, the other may jump.
        return self._clock.now_s(), self._clock.monotonic_s()


def _age_s(since_s: tuple[float, float], now_s: tuple[float, float]) -> float:
    return max(now - since for now, since in zip(now_s, since_s, strict=True))
