"""A remote object as a seekable file: few requests, bounded memory.

The end of the object comes with the first request (a Parquet footer is there, and a small file is
there whole). Reads that go on where the last one ended fetch ahead, up to 16 MiB; a jump fetches
little more than what was asked for, so that a reader of a few columns does not pay for the rest.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["END_BYTES", "RangedFile"]

END_BYTES = 256 * 1024
"""How much of the end comes with the first request."""
_AHEAD_BYTES_MIN = 1024 * 1024
_AHEAD_BYTES_MAX = 16 * 1024 * 1024


class RangedFile(io.RawIOBase):
    """An object of `size` bytes that ends with `end`; `fetch(start, stop)` gives any part of it.

    Not for use by several threads at once (pyarrow takes turns by itself).
    """

    def __init__(self, size: int, end: bytes, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._end, self._fetch = size, end, fetch
        self._position = 0
        self._window, self._window_start = b"", 0
        self._ahead = _AHEAD_BYTES_MIN

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"Cannot seek to {start + offset}.")
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._position + size, self._size)
        if stop <= self._position:
            return b""
        data = self._part(self._position, stop)
        self._position = stop
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _part(self, start: int, stop: int) -> bytes:
        end_start = self._size - len(self._end)
        if start >= end_start:
            return self._end[start - end_start : stop - end_start]
        if stop > end_start:
            return self._part(start, end_start) + self._end[: stop - end_start]
        window_stop = self._window_start + len(self._window)
        if self._window_start <= start < window_stop:
            have = self._window[start - self._window_start : stop - self._window_start]
            if start + len(have) == stop:
                return have
            return have + self._part(start + len(have), stop)
        # Right behind the window: a reader that goes on. Elsewhere: one that picks.
        goes_on = start == window_stop
        self._ahead = min(2 * self._ahead, _AHEAD_BYTES_MAX) if goes_on else _AHEAD_BYTES_MIN
        fetch_stop = min(max(stop, start + self._ahead), end_start)
        self._window, self._window_start = self._fetch(start, fetch_stop), start
        return self._window[: stop - start]
