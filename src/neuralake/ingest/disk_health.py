"""Whether rows can be stored now: the queue takes them, and its disk and the lake's have room.

Looked at when somebody asks for the server's health: if all was well, every ten seconds at most,
for a look writes some 130 KiB and anybody may ask; every second while something is wrong, or rows
were refused for it. A look stores nothing that lasts: the queue tries a transaction, and a file
without a name is made beside it; both are synced. It finds a disk that is full (for a request of
about a mebibyte), read-only or broken before rows are sent.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from neuralake.catalog import Catalog
from neuralake.clock import Clock
from neuralake.errors import NeuralakeError

__all__ = ["DiskHealth", "Reason"]

_LOOK_S = 10.0
_LOOK_IN_DOUBT_S = 1.0
_ROOM_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024  # The largest block that file systems have by default.


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows cannot be stored: of `part` (`queue`, `queue disk`, `lake disk`), and since when."""

    part: str
    since: str
    """UTC, when it was first seen."""
    detail: str
    """Without paths: who asks for health need not have a token."""


class DiskHealth:
    """Looks at the places of one catalog."""

    def __init__(self, catalog: Catalog, *, clock: Clock) -> None:
        self._catalog, self._clock = catalog, clock
        self._lock = threading.Lock()
        self._looked_s = float("-inf")
        self._reasons: dict[str, Reason] = {}
        self._is_doubted = False
        self._looking: asyncio.Task[list[Reason]] | None = None

    def doubt(self) -> None:
        """Rows were refused as `Unavailable`: look again soon, though all was well. Any thread."""
        self._is_doubted = True

    async def asked(self) -> list[Reason]:
        """As `reasons`, for those of one event loop: all who ask meanwhile wait for one look."""
        if self._is_known():
            return list(self._reasons.values())
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(self.reasons))
        return await asyncio.shield(self._looking)  # Whoever goes away takes nobody's look along.

    def reasons(self) -> list[Reason]:
        """What is wrong, or was ten seconds ago (one, if something was); empty if all is well.

        Waits for disks. Any thread may ask.
        """
        with self._lock:
            if not self._is_known():
                now_s = self._clock.monotonic_s()
                self._is_doubted = False  # First: who is refused from here on doubts this look.
                self._reasons = {part: self._reason(part, why) for part, why in self._look()}
                self._looked_s = now_s
            return list(self._reasons.values())

    def _is_known(self) -> bool:
        is_quick = self._is_doubted or self._reasons
        age_s = self._clock.monotonic_s() - self._looked_s
        return age_s < (_LOOK_IN_DOUBT_S if is_quick else _LOOK_S)

    def _look(self) -> Iterator[tuple[str, str]]:
        for part, probe in self._probes():
            try:
                probe()
            except NeuralakeError as error:
                why = error.facts.get("sqlite") or error.facts.get("reason")
                yield part, f"{type(error).__name__}{f' ({why})' if why else ''}"
            except OSError as error:
                yield part, error.strerror or type(error).__name__

    def _probes(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "queue", self._catalog.queue().probe
        folders: dict[int, Path] = {}
        settings = self._catalog.settings
        if settings.queue.kind == "sqlite":
            folder = settings.queue_path.parent
            folders[_device(folder)] = folder
            yield "queue disk", lambda: _try_room(folder)
        if "://" not in settings.root:
            root = Path(settings.root)
            # One that is not there is made by the first commit.
            if root.is_dir() and _device(root) not in folders:
                yield "lake disk", lambda: _try_room(root)

    def _reason(self, part: str, why: str) -> Reason:
        known = self._reasons.get(part)
        if known is not None:
            return Reason(part, known.since, why)
        since = datetime.fromtimestamp(self._clock.now_s(), UTC).isoformat(timespec="seconds")
        return Reason(part, since.replace("+00:00", "Z"), why)


def _device(folder: Path) -> int:
    try:
        return folder.stat().st_dev
    except OSError:
        return -1  # Told by trying it.


def _try_room(folder: Path) -> None:
    """Raise OSError unless a file of some size can be stored in `folder`."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        handle = file.fileno()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, _ROOM_BYTES)
        # Room that is promised may not be there: on a volume or an image that is larger than what
        # holds it, and behind a quota, only what is written and synced is sure. Bytes that no disk
        # makes smaller, and at both ends.
        piece = os.urandom(_PIECE_BYTES)
        for at in (0, _ROOM_BYTES - _PIECE_BYTES):
            if os.pwrite(handle, piece, at) < len(piece):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
