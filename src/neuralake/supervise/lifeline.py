"""When a part must stop: it was told to, or the process that started it is gone.

A supervisor keeps the writing end of each child's standard input open and never writes. When the
supervisor dies, however it dies, the operating system closes that end, and the child reads the end
of file. It stops as on SIGTERM, and if it has not ended after `grace_s`, it is ended.
"""

from __future__ import annotations

import logging
import os
import signal
import threading

from neuralake.clock import SystemClock
from neuralake.supervise.signals import watch_signals

__all__ = ["stop_event", "watch_lifeline"]

_log = logging.getLogger(__name__)

# Longer than the writer may take to drain what is acknowledged.
_GRACE_S = 30.0
_REPEATED_S = 1.0
# sysexits.h EX_TEMPFAIL: nothing is wrong with the call; start again.
_EXIT_CODE = 75


def stop_event(*, lifeline: bool = False) -> threading.Event:
    """An event that SIGTERM, SIGINT and, with `lifeline`, the end of standard input set.

    Call it from the main thread. The same signal a second or more later ends the process at once;
    sooner it is no other one: `timeout` and terminals signal a process and its group.
    """
    stop, clock = threading.Event(), SystemClock()
    first_s: dict[signal.Signals, float] = {}

    def tell(number: signal.Signals) -> None:
        now_s = clock.monotonic_s()
        if now_s - first_s.setdefault(number, now_s) >= _REPEATED_S:
            os._exit(128 + number)  # As a shell tells of a process that a signal has ended.
        stop.set()

    watch_signals({signal.SIGTERM, signal.SIGINT}, tell)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # As a child of ours begins.
    if lifeline:
        watch_lifeline(0, stop)
    return stop


def watch_lifeline(descriptor: int, stop: threading.Event, *, grace_s: float = _GRACE_S) -> None:
    """Set `stop` when `descriptor` ends; end the process if it is still there after `grace_s`."""

    def watch() -> None:
        while os.read(descriptor, 1024):
            pass
        _log.warning("The supervisor is gone; stopping.")
        stop.set()
        threading.Event().wait(grace_s)
        os._exit(_EXIT_CODE)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
