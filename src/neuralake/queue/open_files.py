"""Whether the queue's files are still those that this process has open.

A file that was removed or replaced takes writes as before, and so does its log: what is
acknowledged then ends with the process. SQLite does not look; three calls of `stat` do, which cost
a few microseconds. A file that is open keeps its number, so that no new one can have it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["OpenFiles"]


class OpenFiles:
    """The file `path`, its log and the log's index, as they are now: just opened."""

    def __init__(self, path: Path) -> None:
        real = path.resolve()  # SQLite puts the log beside the file that a link leads to.
        self._log, self._index = f"{real}-wal", f"{real}-shm"
        names = (str(path), self._log, self._index)
        self._known = {name: _identity(name) for name in names}

    def gone(self) -> list[str]:
        """The paths at which there is nothing any more, or another file."""
        found = {name: _identity(name) for name in self._known}
        if found == self._known and None not in found.values():
            return []
        return [name for name in found if found[name] is None or found[name] != self._known[name]]

    def has_other_log(self) -> bool:
        """Whether somebody goes on with another log, or with another index of this one.

        Another log counts once it was committed to. Another index counts at once: what is
        committed by it is in our log, where we do not see it.
        """
        log = self._log
        if _identity(log) == self._known[log]:
            return _identity(self._index) not in (None, self._known[self._index])
        with suppress(OSError):
            return _identity(log) != self._known[log] and os.path.getsize(log) > 0  # noqa: PTH202
        return False


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116 asked for by each read and commit
    except OSError:
        return None
    return found.st_dev, found.st_ino
