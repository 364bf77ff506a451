"""Whether the queue's files are still those that this process has open, and as it left them.

A file that was removed or replaced takes writes as before, and so does its log: what is
acknowledged then ends with the process. One that was written over in its place (`cp` onto it, `>`
to make room) does not hold what it should. SQLite does not look; four calls of `stat` and two of
`pread` do, which take some 20 microseconds (15 to 22 were measured). A file that is open keeps its
number, so that no new one can have it.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from neuralake.queue.kept_handle import KeptHandle

__all__ = ["OpenFiles"]

# What SQLite says of its files (fileformat2.html, walformat.html). In the file: its magic, whose
# file it is, and between the two the counter that grows when its first page is written, unless the
# last commits were of the same connection.
_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">16s8xI40xI")
# In the index, in the machine's order: its version, the pages' size, and the frames that count.
_INDEX = struct.Struct("=I10xHI")
_INDEX_VERSION = 3007000
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
# Each process that has the index open holds a lock that others share on this byte (os_unix.c).
_INDEX_IN_USE = 128
_LOOKS = 3


class OpenFiles:
    """The file `path`, its log and the log's index, as they are now: just opened by SQLite.

    Raises:
        OSError: one of them is not there, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        real = path.resolve()  # SQLite puts the log beside the file that a link leads to.
        self._path, self._log, self._index = str(path), f"{real}-wal", f"{real}-shm"
        names = (self._path, self._log, self._index)
        self._known = {name: _identity(name) for name in names}
        with ExitStack() as opened:
            self._file_handle = KeptHandle(self._path)
            opened.callback(self._file_handle.close)
            self._index_handle = KeptHandle(self._index)
            opened.callback(self._index_handle.close)
            self._begin = self._file_handle.begin(_HEADER.size)
            opened.pop_all()

    def gone(self) -> list[str]:
        """The paths at which there is nothing any more, or another file."""
        found = {name: _identity(name) for name in self._known}
        if found == self._known and None not in found.values():
            return []
        return [name for name in found if found[name] is None or found[name] != self._known[name]]

    def written_over(self) -> list[str]:
        """The paths at which the same file holds less, or older things, than SQLite put there.

        Not seen: a file that is as new, or newer by its counter, such as that of another queue.
        """
        whole = {self._path: self._is_file_whole, self._log: self._is_log_whole}
        return [name for name, is_whole in whole.items() if not is_whole()]

    def has_other_log(self) -> bool:
        """Whether somebody goes on with another log, or with another index of this one.

        Another log counts once it was committed to. Another index counts at once: what is
        committed by it is in our log, where we do not see it.
        """
        if _identity(self._log) == self._known[self._log]:
            return _identity(self._index) not in (None, self._known[self._index])
        return self.is_log_lost()

    def is_log_lost(self) -> bool:
        """Whether somebody has committed to another log, without what ours holds."""
        log = self._log
        with suppress(OSError):
            size = os.path.getsize(log)  # noqa: PTH202 as in the other looks
            return _identity(log) != self._known[log] and size > 0
        return False

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody has opened the file with another index; nobody does until the end."""
        if _identity(self._index) in (None, self._known[self._index]):
            yield True
            return
        # Not the one that SQLite has open here, so closing this handle drops no lock of its own.
        handle = os.open(self._index, os.O_RDWR)
        try:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _INDEX_IN_USE)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def close(self) -> None:
        """Call it behind closing the connections to the file."""
        self._file_handle.close()
        self._index_handle.close()

    def _is_file_whole(self) -> bool:
        # First: what another thread has found when we look is newer than what we find.
        known = self._begin
        begin = self._file_handle.begin(_HEADER.size)
        if begin == known:
            return True
        if len(begin) < _HEADER.size:
            return False
        magic, counter, owner = _HEADER.unpack(begin)
        _, known_counter, known_owner = _HEADER.unpack(known)
        # Of a file that was just made, most is still in the log.
        is_ours = magic == _MAGIC and known_owner in (0, owner)
        # The counter begins anew after 2**32.
        if not is_ours or (counter - known_counter) % 2**32 >= 2**31:
            return False
        self._begin = begin
        return True

    def _is_log_whole(self) -> bool:
        """SQLite counts frames when they are in the log, and forgets them before it cuts it."""
        for _ in range(_LOOKS):  # It may be begun anew between two of ours.
            index = self._index_handle.begin(_INDEX.size)
            if len(index) < _INDEX.size:
                return True
            version, page_bytes, frames = _INDEX.unpack(index)
            if version != _INDEX_VERSION:
                return True
            page_bytes = 65536 if page_bytes == 1 else page_bytes
            needed = _LOG_HEADER_BYTES + frames * (page_bytes + _FRAME_HEADER_BYTES)
            try:
                found = os.path.getsize(self._log)  # noqa: PTH202 asked for by each commit
            except OSError:
                return True  # It is gone, which is told by `gone`.
            if frames == 0 or found >= needed:
                return True
        return False


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116 asked for by each read and commit
    except OSError:
        return None
    return found.st_dev, found.st_ino
