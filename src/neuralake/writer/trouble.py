"""Tell what keeps one table from being written: at once, and then once a minute while it lasts.

A table is tried again every few seconds, for days if nobody comes. Each try that ends as the one
before is counted, not told.
"""

from __future__ import annotations

import logging
import re

from neuralake.clock import Clock
from neuralake.errors import NeuralakeError, Unavailable
from neuralake.queue.topic import labels_of

__all__ = ["Trouble"]

_log = logging.getLogger(__name__)

_AGAIN_S = 60.0
_NUMBER = re.compile(r"\d+")


class Trouble:
    """The trouble of one table, if it has any. Use it from one thread."""

    def __init__(self, topic: str, *, clock: Clock) -> None:
        self._topic, self._clock = topic, clock
        self._same: str | None = None
        self._tries = 0
        self._told_s = 0.0

    def tell(self, error: Exception, *, retry_s: float) -> None:
        """A try failed with `error`; the next one comes in `retry_s`."""
        # The same trouble with another number in it (a position, a size) is the same trouble.
        same = f"{type(error).__name__} {_NUMBER.sub('#', str(error))}"
        now_s = self._clock.monotonic_s()
        if same != self._same:
            self._same, self._tries = same, 0
        self._tries += 1
        if self._tries > 1 and now_s - self._told_s < _AGAIN_S:
            return
        self._told_s = now_s
        passing, ours = isinstance(error, Unavailable), isinstance(error, NeuralakeError)
        _log.log(
            logging.WARNING if passing else logging.ERROR,
            "%s %s, tried again in %g s%s: %s",
            self._topic,
            "waits" if passing else "needs attention",
            retry_s,
            f" ({self._tries:,} times so far)" if self._tries > 1 else "",
            error if ours else f"unexpected {type(error).__name__}: {error}",
            # Where it was helps the first time; after that it only pushes other lines away.
            exc_info=not ours and self._tries == 1,
            extra=labels_of(self._topic),
        )

    def over(self) -> None:
        """A try went well."""
        if self._same is not None:
            _log.info(
                "%s goes on, at try %d",
                self._topic,
                self._tries + 1,
                extra=labels_of(self._topic),
            )
            self._same = None
