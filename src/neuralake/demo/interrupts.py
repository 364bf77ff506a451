"""Ctrl-C in steps: the first ends what is going on now, the next what comes after.

SIGTERM (and a closed terminal) end everything in order. A third Ctrl-C ends the process at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Interrupts"]


class Interrupts:
    """Takes over the signals of this process; make it in the main thread."""

    def __init__(self) -> None:
        self.streams = threading.Event()
        """Stop sending."""
        self.all = threading.Event()
        """Stop altogether."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_end)
        signal.signal(signal.SIGHUP, self._on_end)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.streams.is_set():
            self._on_end(number, None)
        self.streams.set()

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.all.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.streams.set()
        self.all.set()
