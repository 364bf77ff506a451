"""Whatever fails, and whenever: nothing acknowledged is lost or doubled, and all goes on after it.

Each seed is a run of its own (`run.py`). NEURALAKE_SEEDS says how many there are; `make chaos` runs
10,000.
"""

from __future__ import annotations

import os

import pytest
from tests.simulation.run import simulate

# So many that each kind of trouble meets each kind of work a few times, in seconds.
_SEEDS = int(os.environ.get("NEURALAKE_SEEDS", "100"))
_BLOCK = 25


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(0, _SEEDS, _BLOCK))
def test_no_row_is_lost_or_doubled_whatever_fails(first: int) -> None:
    for seed in range(first, min(first + _BLOCK, _SEEDS)):
        outcome = simulate(seed)
        if outcome.failure is not None:
            pytest.fail(
                f"seed {seed}: {outcome.failure}\n"
                f"Replay: python -m tests.simulation {seed}\n"
                f"The end of its trace:\n" + "\n".join(outcome.trace[-30:]),
                pytrace=False,
            )
