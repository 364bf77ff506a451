"""The message queue between ingest and writer: durable, ordered, positions only grow."""

from __future__ import annotations

from neuralake.clock import Clock, SystemClock
from neuralake.queue.memory import MemoryQueue
from neuralake.queue.protocol import Appended, Bounds, Envelope, Queue
from neuralake.queue.sqlite import SqliteQueue
from neuralake.settings import Settings
from neuralake.telemetry import Telemetry

__all__ = [
    "Appended",
    "Bounds",
    "Envelope",
    "MemoryQueue",
    "Queue",
    "SqliteQueue",
    "open_queue",
]


def open_queue(
    settings: Settings, clock: Clock | None = None, *, telemetry: Telemetry | None = None
) -> Queue:
    """The lake's queue as `settings.queue` says; its file is made if it is not there.

    Raises:
        NeedsAttention: the file is damaged, read-only, of a newer release or not a queue.
    """
    return SqliteQueue(
        settings.queue_path,
        clock=clock or SystemClock(),
        bytes_max=settings.queue.bytes_max,
        keys_retention_s=settings.queue.keys_retention_hours * 3600,
        telemetry=telemetry,
    )
