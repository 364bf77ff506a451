"""The log folder of a table: names of entries, and reading the newest ones.

Only entries after a known version are read, one after the other, until there is none: what a handle
needs when it was overtaken. The state of the whole log is delta-rs's work (`snapshot.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neuralake.delta.actions import Line, decode_entry
from neuralake.storage import LogStore

__all__ = ["FOLDER", "Entry", "entries_after", "entry_name", "has_log", "read_entry"]

FOLDER = "_delta_log"


@dataclass(frozen=True, slots=True)
class Entry:
    version: int
    lines: list[Line]

    def is_from(self, commit_id: str) -> bool:
        """Whether this entry was made by the commit attempt `commit_id`."""
        infos = (line.commit_info for line in self.lines)
        return any(info is not None and info.txn_id == commit_id for info in infos)


def entry_name(version: int) -> str:
    """Name of log entry `version`, relative to the table."""
    return f"{FOLDER}/{version:020d}.json"


def read_entry(store: LogStore, version: int) -> Entry | None:
    """Entry `version`, or None if it is not there (not yet, or cleaned up)."""
    data = store.read(entry_name(version))
    return None if data is None else Entry(version, decode_entry(data, version=version))


def entries_after(store: LogStore, version: int) -> Iterator[Entry]:
    """The entries after `version`, in order, as they are found."""
    while (entry := read_entry(store, version + 1)) is not None:
        yield entry
        version = entry.version


def has_log(store: LogStore) -> bool:
    """Whether a table is there: its log has an entry or a checkpoint."""
    names = store.names(FOLDER)
    return any(name[:20].isdigit() and name.endswith((".json", ".parquet")) for name in names)
