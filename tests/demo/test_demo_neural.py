"""The simulated session: smooth reaches, and channels that prefer a direction."""

from __future__ import annotations

import math

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.demo.neural import BIN_S, CHANNELS, NeuralSession

SESSION = NeuralSession(seed=7)


def test_the_same_seed_gives_the_same_session() -> None:
    again, other = NeuralSession(seed=7), NeuralSession(seed=8)

    assert again.counts(123) == SESSION.counts(123)
    assert other.counts(123) != SESSION.counts(123)


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(min_value=0, max_value=1_000_000))
def test_every_bin_has_a_count_for_every_channel(number: int) -> None:
    counts = SESSION.counts(number)

    assert len(counts) == CHANNELS
    assert all(0 <= count < 50 for count in counts)


@given(st.integers(min_value=0, max_value=1_000_000))
def test_the_cursor_stays_on_the_field_and_moves_as_it_says(number: int) -> None:
    """The velocity is the derivative of the position: no jumps, also between two reaches."""
    before, now = SESSION.movement(number), SESSION.movement(number + 1)

    assert math.hypot(now.x, now.y) <= 1.0 + 1e-9
    mean = ((before.vx + now.vx) / 2, (before.vy + now.vy) / 2)
    moved = ((now.x - before.x) / BIN_S, (now.y - before.y) / BIN_S)
    assert moved == pytest.approx(mean, abs=0.02)


def test_all_eight_targets_are_reached() -> None:
    held = {
        (round(now.target_x, 6), round(now.target_y, 6))
        for now in map(SESSION.movement, range(0, 800, 10))
        if math.hypot(now.target_x, now.target_y) > 0.5
    }

    assert len(held) == 8


def test_a_channel_fires_more_when_the_cursor_moves_its_way() -> None:
    """Over two rounds of all targets, most channels' preferred directions can be read back."""
    sums = [[0.0, 0.0, 0.0] for _ in range(CHANNELS)]
    moves = [SESSION.movement(number) for number in range(1600)]
    for number, now in enumerate(moves):
        for channel, count in enumerate(SESSION.counts(number)):
            sums[channel][0] += count
            sums[channel][1] += count * now.vx
            sums[channel][2] += count * now.vy
    off = [
        abs((math.atan2(y, x) - true + math.pi) % (2 * math.pi) - math.pi)
        for (_, x, y), true in zip(sums, SESSION.preferred_rad, strict=True)
    ]

    assert sorted(off)[CHANNELS // 2] < math.radians(15)
