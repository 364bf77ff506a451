"""How long the supervisor waits, and how it says what happened."""

from __future__ import annotations

import signal

from hypothesis import given
from hypothesis import strategies as st

from neuralake.supervise.child import describe_exit, restart_delay_s


def test_a_killed_part_is_back_at_once() -> None:
    assert restart_delay_s(1) == 0.1


@given(st.integers(min_value=1, max_value=10_000))
def test_the_delay_grows_and_has_an_end(failures: int) -> None:
    assert restart_delay_s(failures) <= restart_delay_s(failures + 1) <= 10.0


@given(st.integers(min_value=1, max_value=10_000))
def test_a_part_that_is_killed_again_and_again_is_not_away_for_long(failures: int) -> None:
    assert restart_delay_s(failures, -signal.SIGKILL) <= 1.0


def test_an_exit_is_described_by_signal_or_code() -> None:
    assert describe_exit(-signal.SIGKILL) == "was killed by SIGKILL"
    assert describe_exit(-250) == "was killed by signal 250"
    assert describe_exit(70) == "ended with exit code 70"
