"""How far the transfer of a file has come, kept in a small file so that the next run goes on.

It is an optimisation, not what keeps rows from being doubled: that is the keys. Losing it costs
sending again what the server then recognises.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

__all__ = ["Progress", "ProgressFile"]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Batches before `batches` are durable in the queue `queue`."""

    queue: str
    batches: int
    rows: int


class ProgressFile:
    """The progress of one transfer; `name` tells transfers apart."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.json"

    def load(self, queue: str) -> Progress:
        """What is known to be in `queue`; nothing, if the file is missing or of another queue."""
        none = Progress(queue=queue, batches=0, rows=0)
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except (OSError, msgspec.MsgspecError):
            return none
        return found if found.queue == queue else none

    def save(self, progress: Progress) -> None:
        """Replace what is kept. Whole at any moment, not durable: an older state does no harm."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_bytes(msgspec.json.encode(progress))
        aside.replace(self._path)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
