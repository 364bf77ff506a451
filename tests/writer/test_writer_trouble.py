"""What keeps a table from being written is told, and does not fill the terminal."""

from __future__ import annotations

import logging

import pytest

from neuralake.clock import ManualClock
from neuralake.errors import NeedsAttention, Unavailable
from neuralake.writer.trouble import Trouble


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def told(log: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in log.records]


def test_unchanged_trouble_is_told_once_a_minute_with_a_count(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Every 10 s for two minutes; a number that differs makes no other trouble."""
    trouble = Trouble("lab.events", clock=clock)
    for position in range(13):
        trouble.tell(NeedsAttention(f"Ahead of {position}."), retry_s=10.0)
        clock.advance(10.0)

    assert told(caplog) == [
        "ERROR lab.events needs attention, tried again in 10 s: Ahead of 0.",
        "ERROR lab.events needs attention, tried again in 10 s (7 times so far): Ahead of 6.",
        "ERROR lab.events needs attention, tried again in 10 s (13 times so far): Ahead of 12.",
    ]


def test_other_trouble_is_told_at_once_and_so_is_its_end(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trouble = Trouble("lab.events", clock=clock)
    trouble.over()
    trouble.tell(Unavailable("The disk is full."), retry_s=0.5)
    trouble.tell(NeedsAttention("No."), retry_s=10.0)
    trouble.over()
    trouble.over()
    trouble.tell(NeedsAttention("No."), retry_s=10.0)

    assert told(caplog) == [
        "WARNING lab.events waits, tried again in 0.5 s: The disk is full.",
        "ERROR lab.events needs attention, tried again in 10 s: No.",
        "INFO lab.events goes on, at try 2",
        "ERROR lab.events needs attention, tried again in 10 s: No.",
    ]


def test_what_nobody_expected_has_its_trace_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble("lab.events", clock=clock)
    for _ in range(2):
        trouble.tell(TypeError("odd"), retry_s=10.0)
        clock.advance(60.0)

    assert "unexpected TypeError: odd" in told(caplog)[1]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]
