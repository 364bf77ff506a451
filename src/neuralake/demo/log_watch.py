"""Follow the log of a growing Delta table: commits, and files written, replaced and live.

Each look reads only the entries that are new. For the panel: the platform's own numbers come from
its parts, these come from what they have written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

__all__ = ["Compaction", "LogWatch"]


@dataclass(frozen=True, slots=True)
class Compaction:
    """One commit that replaced small files by larger ones."""

    table: str
    removed: int
    added: int


class _Add(msgspec.Struct, rename="camel"):
    path: str
    size: int = 0
    data_change: bool = True


class _Remove(msgspec.Struct, rename="camel"):
    path: str
    data_change: bool = True


class _Line(msgspec.Struct):
    add: _Add | None = None
    remove: _Remove | None = None


_decoder = msgspec.json.Decoder(_Line)


class LogWatch:
    """Counts since the table was made; `look()` brings them up to date.

    Attributes:
        commits: log entries after the one that made the table.
        files_written: data files that the writer has added.
        files_live: data files of the newest version.
        compactions: what compaction has replaced so far, oldest first.
    """

    def __init__(self, table: str, folder: Path) -> None:
        self.table = table
        self.commits = 0
        self.files_written = 0
        self.files_live = 0
        self.compactions: list[Compaction] = []
        self._log = folder / "_delta_log"
        self._next = 0

    def look(self) -> None:
        """Read the entries that were committed since the last look."""
        while True:
            try:
                entry = (self._log / f"{self._next:020}.json").read_bytes()
            except FileNotFoundError:
                return
            self._take(entry)
            self.commits = self._next
            self._next += 1

    def _take(self, entry: bytes) -> None:
        lines = [_decoder.decode(line) for line in entry.splitlines() if line.strip()]
        added = [line.add for line in lines if line.add is not None]
        removed = [line.remove for line in lines if line.remove is not None]
        self.files_written += sum(add.data_change for add in added)
        self.files_live += len(added) - len(removed)
        if removed and not any(remove.data_change for remove in removed):
            self.compactions.append(Compaction(self.table, len(removed), len(added)))
