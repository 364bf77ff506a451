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
from types import FrameType

__all__ = ["stop_event", "watch_lifeline"]

_log = logging.getLogger(__name__)

# Longer than the writer may take to drain what is acknowledged.
_GRACE_S = 30.0
# sysexits.h EX_TEMPFAIL: nothing is wrong with the call; start again.
_EXIT_CODE = 75


def stop_event(*, lifeline: bool = False) -> threading.Event:
    """An event that SIGTERM, SIGINT and, with `lifeline`, the end of standard input set.

    Call it from the main thread. A second signal ends the process as it would any other.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    _wake_by_signals(stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # As a child of ours begins.
    if lifeline:
        watch_lifeline(0, stop)
    return stop


def _wake_by_signals(stop: threading.Event) -> None:
    """Let signals set `stop` from a thread, too.

    A library that takes SIGINT over when it is loaded, later than we (Polars), lets system calls go
    on behind its handler: the main thread would wait for ever, and never come to run ours.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        while not {signal.SIGTERM, signal.SIGINT}.intersection(os.read(reading, 64)):
            pass
        stop.set()

    threading.Thread(target=watch, name="signals", daemon=True).start()


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
