"""What goes wrong in one run, and how often: drawn from the seed, so runs differ in kind.

Most runs have a few kinds of trouble in plenty rather than all kinds in moderation: what is common
in one run (crashes, say) cannot hide what another one (days of pause) would show.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

__all__ = ["Weather"]

_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86_400.0
# The longest pause, and the longest rest between two rounds of an actor: others must be at work
# while one stands still, or the pause means nothing.
_CLIMATES = (
    (_MINUTE_S, 1.0),
    (_MINUTE_S, 10.0),
    (2 * _HOUR_S, 10 * _MINUTE_S),
    (3 * _DAY_S, 6 * _HOUR_S),
    (10 * _DAY_S, 2 * _DAY_S),
)


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances per store operation, and the scales of time in seconds."""

    error_before: float
    """The operation fails and has done nothing."""
    error_after: float
    """It has its effect (or a part of it), and the caller is told that it failed."""
    late: float
    """The caller is told that it failed, and it has its effect some time later."""
    repeated: float
    """A put-if-absent succeeds and is told as `AlreadyThere`: the client repeated it by itself."""
    crash: float
    """The process dies, before the effect or after it."""
    pause: float
    """The process stands still for up to `pause_s_max` before or after the effect."""
    pause_s_max: float
    commit_pause: float
    """The same, right before or after it puts a log entry: where it hurts most."""
    latency_s: float
    """Mean time of a store operation."""
    pace_s: float
    """Longest time between two rounds of an actor."""

    @classmethod
    def draw(cls, chance: random.Random) -> Weather:
        def often(*rates: float) -> float:
            return chance.choice((0.0, *rates))

        pause_s_max, pace_s = chance.choice(_CLIMATES)
        return cls(
            error_before=often(0.01, 0.05),
            error_after=often(0.01, 0.05),
            late=often(0.01, 0.03),
            repeated=often(0.0, 0.05),
            crash=often(0.004, 0.015),
            pause=often(0.005, 0.03),
            commit_pause=often(0.05, 0.3),
            pause_s_max=pause_s_max,
            latency_s=chance.choice((0.005, 0.05, 1.0)),
            pace_s=pace_s,
        )

    def calm(self) -> Weather:
        """The same paces without any trouble."""
        return replace(
            self,
            error_before=0.0,
            error_after=0.0,
            late=0.0,
            repeated=0.0,
            crash=0.0,
            pause=0.0,
            commit_pause=0.0,
        )

    def wait_s(self, chance: random.Random, *, commits: bool = False) -> float:
        """How long the next step of a store operation takes; `commits`: it puts a log entry."""
        if chance.random() < (max(self.pause, self.commit_pause) if commits else self.pause):
            long_s = chance.uniform(self.pause_s_max / 4, self.pause_s_max)
            return chance.choice((long_s, spread(chance, 1.0, self.pause_s_max)))
        return chance.expovariate(1 / self.latency_s)

    def rest_s(self, chance: random.Random) -> float:
        """How long an actor rests between two rounds."""
        return spread(chance, 0.01, self.pace_s)


def spread(chance: random.Random, low: float, high: float) -> float:
    """Between `low` and `high`, each order of magnitude as likely as the next."""
    return math.exp(chance.uniform(math.log(low), math.log(high)))
