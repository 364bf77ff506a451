"""Signals as calls from a thread of their own.

A handler runs in the main thread between two of its steps, perhaps inside `Event.wait`, with the
event's lock held: to set an event there may wait for ever, and one signal more while it is being
set surely does. So the handlers do nothing, and a thread is told by a pipe. It also hears what a
library keeps from the main thread that takes a signal over when it is loaded later (Polars does,
SIGINT): system calls go on behind such a handler, and ours would never come to run.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection

__all__ = ["watch_signals"]


def watch_signals(
    numbers: Collection[signal.Signals], tell: Callable[[signal.Signals], None]
) -> None:
    """Call `tell` for each signal of `numbers` that comes, one after the other, from a thread.

    Call it from the main thread; a later call takes the place of an earlier one.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def watch() -> None:
        while True:
            for number in os.read(reading, 64):
                if number in numbers:
                    tell(signal.Signals(number))

    threading.Thread(target=watch, name="signals", daemon=True).start()
