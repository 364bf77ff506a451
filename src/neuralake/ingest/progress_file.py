"""What was delivered of a file, kept in a small file beside the lake for the next run.

It says which parts were acknowledged and need not be sent again, also when the server has forgotten
their keys, and where the end was of a file that has grown. If it is lost all is sent again, and the
server knows what it has by the keys.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from neuralake.clock import Clock
from neuralake.ingest.file_parts import Known

__all__ = ["ProgressFile", "remove_old"]

_KEPT_S = 30 * 24 * 3600.0


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    salt: str = ""


class ProgressFile:
    """The progress of one transfer into the queue `queue`; `name` tells transfers apart.

    Reads what there is when made. Whole lines only count, so that it may break off anywhere.
    """

    def __init__(self, folder: Path, name: str, *, queue: str) -> None:
        self._path = folder / f"{name}.progress"
        self._queue = queue
        self.salt = ""
        """What the keys of this transfer are made with, besides its rows."""
        self.parts: list[Known] = []
        """Parts that were acknowledged, from the beginning of the file on."""
        with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
            self._read(self._path.read_bytes())

    def _read(self, text: bytes) -> None:
        first, *lines = text.splitlines(keepends=True)
        head = msgspec.json.decode(first, type=_Head)
        if head.queue != self._queue:
            return
        self.salt = head.salt
        for line in lines:
            if line.endswith(b"\n"):
                rows, key = line.split()
                self.parts.append(Known(int(rows), key.decode()))

    def begin(self, salt: str, parts: Sequence[Known]) -> None:
        """Keep only `parts`, and the salt for those that follow."""
        self.salt, self.parts = salt, list(parts)
        head = msgspec.json.encode(_Head(queue=self._queue, salt=salt)) + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_bytes(head + b"".join(_line(part) for part in parts))
        aside.replace(self._path)

    def add(self, part: Known) -> None:
        """`part` was acknowledged. Not durable: an older state does no harm."""
        self.parts.append(part)
        with self._path.open("ab") as file:
            file.write(_line(part))


def remove_old(folder: Path, *, clock: Clock) -> None:
    """Remove the progress of transfers that nobody touched for a month."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.stat().st_mtime < clock.now_s() - _KEPT_S:
                path.unlink(missing_ok=True)


def _line(part: Known) -> bytes:
    return f"{part.rows} {part.key}\n".encode()
