"""Time as a part that is passed in: nothing else reads the wall clock or sleeps.

`SystemClock` is the machine's; `ManualClock` is turned by hand, so a test of an hour takes none.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """What a part needs to know of time."""

    def now_s(self) -> float:
        """Unix seconds; may jump. For what people and other machines read."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment; never goes back. For ages and deadlines."""

    def wait_s(self, seconds: float, stop: threading.Event) -> bool:
        """Sleep until `seconds` have passed or `stop` is set; True if it was set."""


class SystemClock:
    """The machine's time."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wait_s(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when told, or by exactly what somebody waits."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._now_s

    def wait_s(self, seconds: float, stop: threading.Event) -> bool:
        self.advance(max(0.0, seconds))
        return stop.is_set()

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
