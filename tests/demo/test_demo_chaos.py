"""Kill any process of the platform with -9, at any time: no acknowledged row is lost or doubled."""

from __future__ import annotations

import random
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest
from lab_project import eventually, is_running, kill, start_cli

from neuralake.clock import SystemClock
from neuralake.settings import load_settings
from neuralake.supervise import UpState, read_state

# Past the end of the streams, so that parts also die while the last rows are committed and checked.
_FIRE_AFTER_STREAMS_S = 3


def run_demo_under_fire(folder: Path, *, seed: int, seconds: int) -> tuple[str, int, Counter[str]]:
    """What the demo printed, its exit code, and how often each part was killed."""
    kills: Counter[str] = Counter()
    hit: set[int] = set()
    over = threading.Event()
    folder.mkdir()
    with start_cli(folder, "demo", "--seconds", str(seconds), "--folder", "lake") as demo:
        killer = threading.Thread(
            target=shoot, args=(folder, random.Random(seed), kills, hit, over, seconds)
        )
        killer.start()
        try:
            printed, _ = demo.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            demo.kill()
            printed, _ = demo.communicate()
        finally:
            over.set()
            killer.join()
    assert not [pid for pid in hit if is_running(pid)]
    return printed, demo.returncode, kills


def shoot(
    folder: Path,
    draw: random.Random,
    kills: Counter[str],
    hit: set[int],
    over: threading.Event,
    seconds: int,
) -> None:
    """Kill about once a second, from the first moment on."""
    assert eventually(lambda: state_of(folder) is not None)
    clock = SystemClock()
    last_s = clock.monotonic_s() + seconds + _FIRE_AFTER_STREAMS_S
    while clock.monotonic_s() < last_s and not over.wait(draw.uniform(0.3, 1.7)):
        state = state_of(folder)
        if state is None or not state.processes:
            continue
        name = draw.choice(sorted(state.processes))
        pid = state.processes[name]
        hit |= set(state.processes.values())
        if is_running(pid):
            kill(pid)
            kills[name] += 1


def state_of(folder: Path) -> UpState | None:
    file = folder / "lake" / "neuralake.toml"
    if not file.exists():
        return None
    return read_state(load_settings(file, environment={}).state_folder)


def test_the_demo_verifies_every_row_under_fire(tmp_path: Path) -> None:
    printed, exit_code, kills = run_demo_under_fire(tmp_path / "demo", seed=0, seconds=12)

    assert exit_code == 0, printed
    assert "Verified: all" in printed
    assert kills.total() >= 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_demo_verifies_every_row_under_fire_ten_times_in_a_row(
    tmp_path: Path, seed: int
) -> None:
    printed, exit_code, kills = run_demo_under_fire(tmp_path / "demo", seed=seed, seconds=30)

    assert exit_code == 0, printed
    assert kills.total() >= 10
