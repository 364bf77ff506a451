"""A part stops when it is told to, and when whoever started it is gone."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PART = """
from neuralake.supervise import stop_event
stop = stop_event(lifeline=True)
print("ready", flush=True)
stop.wait()
print("stopped in order", flush=True)
"""
LATE_LIBRARY = """
from neuralake.supervise import stop_event
stop = stop_event(lifeline=True)
import polars
print("ready", flush=True)
stop.wait()
print("stopped in order", flush=True)
"""
BUSY = """
import sys
from neuralake.supervise import lifeline, stop_event
lifeline._REPEATED_S = 3600.0  # However slow a machine is.
stop = stop_event()
print("ready", flush=True)
while not stop.wait(1e-6):
    pass
sys.stdin.read()
print("stopped in order", flush=True)
"""
DEAF = """
import threading
from neuralake.supervise import stop_event
stop = stop_event()
print("ready", flush=True)
stop.wait()
print("told", flush=True)
threading.Event().wait()
"""
STUBBORN = """
import threading
from neuralake.supervise.lifeline import watch_lifeline
watch_lifeline(0, threading.Event(), grace_s=0.1)
print("ready", flush=True)
threading.Event().wait()
"""


def start(script: str) -> subprocess.Popen[str]:
    part = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert part.stdout is not None
    assert part.stdout.readline() == "ready\n"
    return part


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("script", [PART, LATE_LIBRARY])
def test_a_signal_stops_a_part_in_order(number: signal.Signals, script: str) -> None:
    """Also where a library was loaded later, and took SIGINT over."""
    with start(script) as part:
        part.send_signal(number)
        # Its standard input stays open: the signal alone must do.
        assert part.stdout is not None
        assert part.stdout.read() == "stopped in order\n"

    assert part.returncode == 0


def test_signals_that_come_together_stop_a_part_in_order() -> None:
    """As `timeout` sends them, to a process and to its group: a handler that is interrupted by the
    next one while it sets an event waits for itself.
    """
    with start(BUSY) as part:
        for _ in range(2000):
            part.send_signal(signal.SIGTERM)
        answer, _ = part.communicate()

    assert (answer, part.returncode) == ("stopped in order\n", 0)


def test_a_later_signal_ends_a_part_that_does_not_stop() -> None:
    with start(DEAF) as part:
        part.send_signal(signal.SIGTERM)
        assert part.stdout is not None
        assert part.stdout.readline() == "told\n"
        while part.poll() is None:  # Within the first second it is the same one.
            part.send_signal(signal.SIGTERM)

    assert part.returncode == 128 + signal.SIGTERM


def test_the_end_of_the_lifeline_stops_a_part_in_order() -> None:
    """The operating system closes the pipe of a supervisor that died, however it died."""
    with start(PART) as part:
        answer, _ = part.communicate()

    assert (answer, part.returncode) == ("stopped in order\n", 0)


def test_a_part_that_does_not_stop_is_ended() -> None:
    with start(STUBBORN) as part:
        part.communicate()

    assert part.returncode == 75
