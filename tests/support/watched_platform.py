"""A platform whose processes are watched, as `neuralake up` does it. For tests of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from neuralake.supervise import Supervisor


@contextmanager
def watched(platform: Supervisor) -> Iterator[None]:
    """Its processes are started again when they end, until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=platform.watch, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
