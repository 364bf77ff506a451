"""New rows of a stream table as they come, in a loop: `for rows, position in …`, or `async for`.

A follower asks again at once while there are rows, and less often while there are none. A queue
that does not answer is asked again for a minute.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from neuralake.clock import Clock, SystemClock
from neuralake.errors import Unavailable
from neuralake.live.tail import LONG_POLL_S

if TYPE_CHECKING:
    from neuralake.live.follower import Followed, Follower

__all__ = ["follow", "follow_async"]

# One look takes a fraction of a millisecond of the embedded queue.
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.005, 0.03
_TROUBLE_PAUSE_S_MAX = 2.0
_TROUBLE_S_MAX = 60.0
_LOG = logging.getLogger(__name__)


def follow(
    follower: Follower,
    *,
    idle_s: float | None = None,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> Iterator[Followed]:
    """What `follower` finds, until `stop` is set or the loop is left.

    Args:
        idle_s: after so long without rows a frame without rows comes, so that the loop's body may
            look at other things, and keep the position.

    Raises:
        Trimmed, Conflict: as `Follower.step`.
        Unavailable: the queue did not answer for a minute.
    """
    clock, stop = clock or SystemClock(), stop or threading.Event()
    pace = _Pace(follower, idle_s, clock)
    while not stop.is_set():
        found = pace.step()
        if found is not None:
            yield found
        elif pace.pause_s:
            clock.wait_s(pace.pause_s, stop)


async def follow_async(
    make: Callable[[], Follower], *, idle_s: float | None = None, clock: Clock | None = None
) -> AsyncIterator[Followed]:
    """As `follow`; `make` is called when the loop begins. Blocking work is done in a thread."""
    loop = asyncio.get_running_loop()
    # Its own: steps wait, and would keep all threads of the loop's pool.
    thread = ThreadPoolExecutor(1, thread_name_prefix="follow")
    try:
        pace = _Pace(await loop.run_in_executor(thread, make), idle_s, clock or SystemClock())
        while True:
            found = await loop.run_in_executor(thread, pace.step)
            if found is not None:
                yield found
            elif pace.pause_s:
                await asyncio.sleep(pace.pause_s)
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class _Pace:
    """When the next step is due."""

    def __init__(self, follower: Follower, idle_s: float | None, clock: Clock) -> None:
        self._follower, self._idle_s, self._clock = follower, idle_s, clock
        self._told_s = clock.monotonic_s()
        self._trouble_s: float | None = None
        self._bound_s = _PAUSE_S_MIN
        self.pause_s = 0.0
        """How long to wait after a step that gave nothing."""

    def step(self) -> Followed | None:
        began_s = self._clock.monotonic_s()
        try:
            found = self._follower.step()
        except Unavailable as error:
            self._trouble_s = began_s if self._trouble_s is None else self._trouble_s
            if began_s - self._trouble_s > _TROUBLE_S_MAX:
                raise
            _LOG.warning("following goes on when the queue answers: %s", error)
            self._grow(_TROUBLE_PAUSE_S_MAX)
            return None
        self._trouble_s, now_s = None, self._clock.monotonic_s()
        if self._follower.moved:
            self._bound_s = self.pause_s = 0.0
        elif now_s - began_s >= LONG_POLL_S / 2:
            self._bound_s = self.pause_s = _PAUSE_S_MIN  # It waited already.
        else:
            self._grow(_PAUSE_S_MAX)
        if found is None and self._idle_s is not None and now_s - self._told_s >= self._idle_s:
            found = self._follower.nothing()
        if found is not None:
            self._told_s = now_s
        return found

    def _grow(self, longest_s: float) -> None:
        # Spread, so that many followers do not ask in the same moment.
        self._bound_s = min(max(2 * self._bound_s, _PAUSE_S_MIN), longest_s)
        self.pause_s = random.uniform(0.5, 1.0) * self._bound_s  # noqa: S311 no secret
