"""Ctrl-C in steps: the first ends what is going on now, the next what comes after.

SIGTERM (and a closed terminal) end everything in order. A third Ctrl-C ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading

from neuralake.supervise.signals import watch_signals

__all__ = ["Interrupts"]


class Interrupts:
    """Takes over the signals of this process; make it in the main thread."""

    def __init__(self) -> None:
        self.streams = threading.Event()
        """Stop sending."""
        self.all = threading.Event()
        """Stop altogether."""
        watch_signals({signal.SIGINT, signal.SIGTERM, signal.SIGHUP}, self._on_signal)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.all.is_set():
            os._exit(128 + number)  # As a shell tells of a process that a signal has ended.
        if number != signal.SIGINT or self.streams.is_set():
            self.all.set()
        self.streams.set()
