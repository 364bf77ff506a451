"""The log folder of a table: names of entries, and reading those after a known version.

Entries are asked for by name, one after the other, until there is none: what a handle needs when it
was overtaken, and no listing. The state of the whole log is `replay.py`'s work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from neuralake.delta.actions import Line, decode_entry
from neuralake.errors import NeedsAttention
from neuralake.storage import LogStore

__all__ = [
    "FOLDER",
    "Entry",
    "MissingEntry",
    "entries_after",
    "entry_name",
    "entry_version",
    "has_log",
    "raw_entries_after",
    "read_entry",
]

FOLDER = "_delta_log"
_ENTRY = re.compile(r"(\d{20})\.json")

# Reads under way at once from a store where one takes long; threads start when first used.
_AHEAD_MAX = 16
_POOL = ThreadPoolExecutor(_AHEAD_MAX, thread_name_prefix="neuralake-log")


class MissingEntry(NeedsAttention):
    """An entry is not there, but a later one is. Facts: `version`."""


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


def entry_version(name: str) -> int | None:
    """The version of the entry that a file in the log folder is; None: it is something else."""
    found = _ENTRY.fullmatch(name)
    return None if found is None else int(found[1])


def read_entry(store: LogStore, version: int) -> Entry | None:
    """Entry `version`, or None if it is not there (not yet, or cleaned up)."""
    data = store.read(entry_name(version))
    return (
        None if data is None else Entry(version, decode_entry(data, version=version, uri=store.uri))
    )


def entries_after(store: LogStore, version: int) -> Iterator[Entry]:
    """The entries after `version`, in order, as they are found.

    Raises:
        NeedsAttention: an entry is damaged.
        MissingEntry: one is missing, but a later one is there.
    """
    for found, data in raw_entries_after(store, version):
        yield Entry(found, decode_entry(data, version=found, uri=store.uri))


def raw_entries_after(
    store: LogStore, version: int, *, known: int | None = None, last: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """The entries after `version` as they are stored, each with its version.

    Args:
        known: a version up to which entries are known to exist; saves waiting, asserts nothing.
        last: where to stop; None: at the first that is not there.
    """
    ahead, step = (1, 1) if known is None else (_AHEAD_MAX, _AHEAD_MAX)
    while last is None or version < last:
        count = ahead if store.stamp_age_s_max else 1
        if last is not None:
            count = min(count, last - version)
        if known is not None and version < known:
            count = min(count, known - version)
        found = _read_many(store, range(version + 1, version + 1 + count))
        yield from found
        version += len(found)
        if len(found) < count:
            return
        # 1, 1, 2, 4, …: a handle that lost one race asks twice, one far behind does not wait long.
        ahead, step = step, min(2 * step, _AHEAD_MAX)


def _read_many(store: LogStore, versions: range) -> list[tuple[int, bytes]]:
    """The entries `versions` up to the first that is missing."""
    names = [entry_name(version) for version in versions]
    data = [store.read(names[0])] if len(names) == 1 else [*_POOL.map(store.read, names)]
    found: list[tuple[int, bytes]] = []
    for i, version in enumerate(versions):
        entry = data[i]
        if entry is None and any(later is not None for later in data[i + 1 :]):
            # Asked for before it was there, while the later ones were asked for after.
            entry = store.read(names[i])
            if entry is None:
                raise MissingEntry(
                    f"Log entry {version} of {store.uri} is missing, but a later one is there.",
                    version=version,
                )
        if entry is None:
            break
        found.append((version, entry))
    return found


def has_log(store: LogStore) -> bool:
    """Whether a table is there: its log has an entry or a checkpoint."""
    # Most tables have their first entry; only after clean-up the folder must be listed.
    if store.stamp(entry_name(0)) is not None:
        return True
    names = store.names(FOLDER)
    return any(name[:20].isdigit() and name.endswith((".json", ".parquet")) for name in names)
