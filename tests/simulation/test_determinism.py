"""A run depends on its seed alone: what failed once fails again, on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation.run import simulate

_ROOT = Path(__file__).parents[2]
_SEEDS = range(20)


@pytest.fixture(scope="module")
def digests() -> list[str]:
    return [simulate(seed).digest for seed in _SEEDS]


def test_the_same_seed_gives_the_same_trace_in_another_process(digests: list[str]) -> None:
    """The other process orders its sets in another way, too."""
    program = (
        "from tests.simulation.run import simulate\n"
        f"for seed in {_SEEDS!r}: print(simulate(seed).digest)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=_ROOT,
        # This source, whatever is installed.
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": f"{_ROOT}:{_ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.split() == digests


def test_other_seeds_give_other_traces(digests: list[str]) -> None:
    assert len(set(digests)) == len(_SEEDS)


def test_a_run_that_is_cut_short_begins_like_the_whole_and_ends_well() -> None:
    whole, cut = simulate(0), simulate(0, steps_max=100)

    assert cut.trace[:100] == whole.trace[:100]
    assert cut.failure is None
    assert cut.steps < whole.steps
