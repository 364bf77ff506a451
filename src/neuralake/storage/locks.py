"""What a lock table holds and does: for each version of a table, the one commit that may take it.

An entry names a temporary file with the whole log entry. Whoever put the entry first owns the
version; from then on anybody may copy that file to `N.json` and complete the entry, and all of them
write the same bytes. The layout is that of Spark's `S3DynamoDBLogStore`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from neuralake.storage.protocol import AlreadyThere

__all__ = ["LockEntry", "Locks", "MemoryLocks"]


@dataclass(frozen=True, slots=True)
class LockEntry:
    """One commit of one table, finished or not."""

    table_path: str
    """The table's URL, exactly as its writers agreed to spell it: another spelling is another
    table to the lock."""
    file_name: str
    """`00000000000000000003.json`."""
    temp_path: str
    """The temporary file with the entry's bytes, relative to `_delta_log/`."""
    complete: bool = False
    expire_s: int | None = None
    """Unix seconds after which the table may forget the entry; None on unfinished ones."""


class Locks(Protocol):
    """A table of `LockEntry` by (`table_path`, `file_name`); safe for use by several threads.

    Every method may raise `Unavailable` (changed nothing, unless it says otherwise) and
    `UsageError` (no such table, no permission).
    """

    @property
    def name(self) -> str:
        """The lock table's own name."""

    def put_if_absent(self, entry: LockEntry) -> None:
        """Take the version for `entry`, if it is free or already taken by this very entry.

        Raises:
            AlreadyThere: another commit has it.
            OutcomeUnknown: the answer was lost and could not be looked up.
        """

    def get(self, table_path: str, file_name: str) -> LockEntry | None:
        """The entry of one version as it is now, or None."""

    def complete(self, entry: LockEntry, *, expire_s: int) -> bool:
        """Mark `entry` complete; False if the version is not, or no longer, this commit's."""

    def newest(self, table_path: str) -> Iterator[LockEntry]:
        """Entries of a table, the newest version first."""

    def remove(self, entry: LockEntry) -> bool:
        """Remove `entry`; False if the version is not this commit's. For repair by a person."""


class MemoryLocks:
    """A lock table in memory, for tests and simulations of one process."""

    def __init__(self, name: str = "locks") -> None:
        self._name = name
        self._entries: dict[tuple[str, str], LockEntry] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def put_if_absent(self, entry: LockEntry) -> None:
        with self._lock:
            found = self._entries.setdefault(_key(entry), entry)
        if found.temp_path != entry.temp_path:
            raise AlreadyThere(
                f"{entry.file_name} of {entry.table_path} is taken.", name=entry.file_name
            )

    def get(self, table_path: str, file_name: str) -> LockEntry | None:
        return self._entries.get((table_path, file_name))

    def complete(self, entry: LockEntry, *, expire_s: int) -> bool:
        with self._lock:
            if not self._is_of(entry):
                return False
            self._entries[_key(entry)] = replace(entry, complete=True, expire_s=expire_s)
            return True

    def newest(self, table_path: str) -> Iterator[LockEntry]:
        with self._lock:
            found = [entry for (path, _), entry in self._entries.items() if path == table_path]
        yield from sorted(found, key=lambda entry: entry.file_name, reverse=True)

    def remove(self, entry: LockEntry) -> bool:
        with self._lock:
            return self._is_of(entry) and self._entries.pop(_key(entry), None) is not None

    def expire(self, now_s: float) -> None:
        """Forget what has expired, as a server does in its own time."""
        with self._lock:
            for key, entry in [*self._entries.items()]:
                if entry.expire_s is not None and entry.expire_s <= now_s:
                    del self._entries[key]

    def _is_of(self, entry: LockEntry) -> bool:
        found = self._entries.get(_key(entry))
        return found is not None and found.temp_path == entry.temp_path


def _key(entry: LockEntry) -> tuple[str, str]:
    return entry.table_path, entry.file_name
