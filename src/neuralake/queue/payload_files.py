"""Large payloads, each a file of its own beside the queue's file.

SQLite writes a payload page by page to its log, reads it back and writes it to its file: five
times the processor time of one file, and twice the disk's. So what is large is written once and
synced before the transaction that names it; nothing refers to it before. A file never changes. It
is removed after the transaction that trims its envelope; what a kill left behind is swept.

Queue files are moved away, put back and made anew, and a file that the present one does not name
may be another one's. So a name begins with its queue's id, and only old ones of this id are swept.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from neuralake.errors import NeedsAttention

__all__ = ["FILE_BYTES_MIN", "PayloadFiles", "payload_folder", "size_of", "sync_folder"]

FILE_BYTES_MIN = 512 * 1024
"""Payloads from here on are files: below, two more syncs cost more than they save."""

_FOLDER_END = "-payloads"
# A copy of the queue's file that was put back does not name what the newer one does, which may be
# put back in its turn. Only kills leave files behind: few enough to keep them for so long.
_OLD_S = 30 * 86_400.0


def payload_folder(queue_file: Path) -> Path:
    """Beside the file that a link leads to, as SQLite's log is."""
    return Path(f"{queue_file.resolve()}{_FOLDER_END}")


def size_of(name: str) -> int:
    """Bytes of the payload in the file `name`."""
    return int(name.rpartition("-")[2])


class PayloadFiles:
    """The folder beside `queue_file`, made when it is first needed. Raises OSError."""

    def __init__(self, queue_file: Path, queue_id: str) -> None:
        self._folder = str(payload_folder(queue_file))
        self._queue_id = queue_id
        self._is_folder_settled = False

    def write(self, payload: bytes) -> str:
        """Store `payload`, synced but for its name (`settle`); the name to read it by."""
        name = f"{self._queue_id}{uuid.uuid4().hex}-{len(payload)}"
        self._make_folder()
        path = self._path(name)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            rest = memoryview(payload)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        except OSError:
            self.remove([name])
            raise
        finally:
            os.close(handle)
        return name

    def settle(self) -> None:
        """Sync the names of all that was written."""
        sync_folder(self._folder)

    def read(self, name: str) -> bytes | None:
        """The payload; None if there is no such file.

        Raises:
            NeedsAttention: the file was changed.
        """
        try:
            with open(self._path(name), "rb", buffering=0) as file:  # noqa: PTH123 hot path
                payload = file.readall()
        except FileNotFoundError:
            return None
        if len(payload) != size_of(name):
            raise NeedsAttention(
                f"{self._path(name)} has {len(payload)} bytes, but was stored with "
                f"{size_of(name)}: somebody changed it. It and what came after it wait in the "
                f"queue. Restore the queue's files.",
                path=self._path(name),
            )
        return payload

    def remove(self, names: Iterable[str]) -> None:
        """Remove what no envelope refers to; what cannot be removed now is swept later."""
        for name in names:
            with suppress(OSError):
                os.unlink(self._path(name))  # noqa: PTH108 as the rest of this class

    def old(self, now_s: float) -> set[str]:
        """The files of this queue that were written 30 days ago or longer."""
        try:
            with os.scandir(self._folder) as entries:
                return {
                    entry.name
                    for entry in entries
                    if entry.name.startswith(self._queue_id)
                    and now_s - entry.stat().st_mtime > _OLD_S
                }
        except OSError:
            return set()  # There is no folder yet, or another process sweeps it, too.

    def _make_folder(self) -> None:
        if self._is_folder_settled and os.path.isdir(self._folder):  # noqa: PTH112 hot path
            return
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)  # noqa: PTH102 as the rest of this class
        # Also if it is there: whoever made it may not have come to this, or not yet.
        sync_folder(os.path.dirname(self._folder))  # noqa: PTH120 as the rest of this class
        self._is_folder_settled = True

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def sync_folder(path: Path | str) -> None:
    """Sync the names in a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
