"""The simulated input of the demo: a person reaches for targets, 256 channels fire.

A centre-out task: the cursor goes to one of eight targets and back, each reach with the smooth
speed profile of a human hand (minimum jerk). Each channel has a preferred direction and fires
most when the cursor moves that way (cosine tuning), with Poisson counts in bins of 20 ms. Seeded:
the same seed gives the same session. Pure: time comes in as the number of a bin.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

__all__ = ["BIN_S", "CHANNELS", "Movement", "NeuralSession"]

CHANNELS = 256
BIN_S = 0.02

_TARGETS = 8
_REACH_BINS = 40  # 0.8 s out or back, as a quick human reach.
_HOLD_BINS = 10  # 0.2 s at the target, and at the centre.
_LEG_BINS = _REACH_BINS + _HOLD_BINS


@dataclass(frozen=True, slots=True)
class Movement:
    """The cursor at the end of one bin; positions from -1 to 1, velocities per second."""

    x: float
    y: float
    vx: float
    vy: float
    target_x: float
    target_y: float


class NeuralSession:
    """One session: `movement(bin)` of the cursor and `counts(bin)` of the channels.

    Attributes:
        preferred_rad: the direction in which each channel fires most, for checking decoders.
    """

    def __init__(self, seed: int) -> None:
        tuning = random.Random(f"tuning {seed}")  # noqa: S311 a simulation
        self._seed = seed
        self._phase = tuning.randrange(_TARGETS)
        self.preferred_rad = [tuning.uniform(-math.pi, math.pi) for _ in range(CHANNELS)]
        # Spikes per second: at rest, and how much a speed of one adds in the best direction.
        base_hz = [tuning.uniform(5, 25) for _ in range(CHANNELS)]
        depth_hz = [tuning.uniform(3, 10) for _ in range(CHANNELS)]
        self._tuning = [
            (base * BIN_S, depth * BIN_S * math.cos(angle), depth * BIN_S * math.sin(angle))
            for base, depth, angle in zip(base_hz, depth_hz, self.preferred_rad, strict=True)
        ]

    def movement(self, number: int) -> Movement:
        """The cursor in bin `number` (from 0)."""
        leg, step = divmod(number, _LEG_BINS)
        reach = leg // 2
        # 3 and 8 have no common divisor: all eight targets in an order that looks random.
        angle = 2 * math.pi * ((self._phase + 3 * reach) % _TARGETS) / _TARGETS
        end_x, end_y = math.cos(angle), math.sin(angle)
        outward = leg % 2 == 0
        share, speed = _minimum_jerk(min(1.0, step / _REACH_BINS))
        speed /= _REACH_BINS * BIN_S
        if not outward:
            share, speed = 1 - share, -speed
        return Movement(
            x=end_x * share,
            y=end_y * share,
            vx=end_x * speed,
            vy=end_y * speed,
            target_x=end_x if outward else 0.0,
            target_y=end_y if outward else 0.0,
        )

    def counts(self, number: int) -> list[int]:
        """Spikes of each channel in bin `number`: int[256]."""
        now = self.movement(number)
        # A generator per bin: any bin can be asked for, in any order, with the same answer.
        draw = random.Random(self._seed * 1_000_003 + number).random  # noqa: S311 a simulation
        return [
            _poisson(max(0.0, base + x * now.vx + y * now.vy), draw())
            for base, x, y in self._tuning
        ]


def _minimum_jerk(share: float) -> tuple[float, float]:
    """Position and its derivative at `share` of the time, from (0, 0) to (1, 0)."""
    s2, s3 = share**2, share**3
    return s3 * (10 - 15 * share + 6 * s2), 30 * s2 * (1 - share) ** 2


def _poisson(mean: float, uniform: float) -> int:
    """The count at which the distribution of `mean` reaches `uniform`: exact, for small means."""
    count, term = 0, math.exp(-mean)
    below = term
    while uniform > below and count < 100:
        count += 1
        term *= mean / count
        below += term
    return count
