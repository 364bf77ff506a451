"""Ask a server again after a passing failure: with full jitter, and for a bounded time.

Full jitter (a random part of a doubling bound) keeps writers that failed together from failing
together again, and is fair beside a writer that never stops.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from neuralake.clock import Clock, SystemClock

__all__ = ["Patience"]


class Patience:
    """How long, and how often, a request is repeated.

    Args:
        total_s: no try begins later than this after the first.
        first_s: the first wait is a random part of this; the bound doubles with each try.
        longest_s: no bound is above this.
        seed: makes the waits repeatable; by default they differ with each process.
    """

    def __init__(
        self,
        total_s: float = 30.0,
        *,
        first_s: float = 0.1,
        longest_s: float = 5.0,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        self.total_s = total_s
        self._first_s, self._longest_s = first_s, longest_s
        self._clock = clock or SystemClock()
        self._random = random.Random(seed)  # noqa: S311 waits are no secret
        self._never = threading.Event()

    def tries(self) -> Iterator[int]:
        """0, 1, 2, …: a number for each try, after the wait before it, until time is up."""
        ends_s = self._clock.monotonic_s() + self.total_s
        bound_s, number = self._first_s, 0
        while True:
            yield number
            wait_s = self._random.uniform(0.0, bound_s)
            if self._clock.monotonic_s() + wait_s > ends_s:
                return
            self._clock.wait_s(wait_s, self._never)
            bound_s, number = min(2 * bound_s, self._longest_s), number + 1
