"""Await futures of a queue in an event loop, woken once per group commit instead of per future.

`asyncio.wrap_future` wakes the loop for each future, by a system call, at which committer and loop
take the interpreter from each other; with a group of 100 that costs more than the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["awaited"]

_T = TypeVar("_T")


def awaited(future: Future[_T]) -> asyncio.Future[_T]:
    """`future`, to be awaited in the running loop; many that complete together wake it once.

    Unlike `asyncio.wrap_future`, a cancelled await leaves `future` alone: an append that is on its
    way is finished, and nobody hears of it.
    """
    loop = asyncio.get_running_loop()
    with _lock:
        waiter = _waiters.get(loop)
        if waiter is None:
            waiter = _waiters[loop] = _Waiter(loop)
    outer: asyncio.Future[_T] = loop.create_future()
    future.add_done_callback(lambda done: waiter.completed(done, outer))
    return outer


class _Waiter:
    """What completed and was not yet told to the loop; `completed` is called by other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._wake = loop.call_soon_threadsafe
        self._done: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._is_woken = False

    def completed(self, inner: Future[Any], outer: asyncio.Future[Any]) -> None:
        self._done.append((inner, outer))
        if not self._is_woken:
            self._is_woken = True
            # The loop was closed: nobody waits any more.
            with suppress(RuntimeError):
                self._wake(self._tell)

    def _tell(self) -> None:
        # First the mark, then the work: what is added after the last look wakes the loop again.
        self._is_woken = False
        while self._done:
            inner, outer = self._done.popleft()
            if outer.done():
                continue  # Cancelled.
            if inner.cancelled():
                outer.cancel()
            elif (error := inner.exception()) is not None:
                outer.set_exception(error)
            else:
                outer.set_result(inner.result())


_lock = threading.Lock()
_waiters: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiter] = WeakKeyDictionary()
