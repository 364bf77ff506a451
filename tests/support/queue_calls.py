"""Short ways to fill a queue and to read it. For tests of queues."""

from __future__ import annotations

from collections.abc import Callable

from neuralake.queue import Queue

__all__ = ["NEVER_S", "OpenQueue", "fill", "payloads"]

OpenQueue = Callable[..., Queue]
NEVER_S = float("inf")
"""A time that every envelope was appended before."""


def payloads(queue: Queue, topic: str, after: int = 0, **limits: int) -> list[bytes]:
    """What a read gives."""
    return [envelope.payload for envelope in queue.read(topic, after=after, **limits)]


def fill(queue: Queue, topic: str, count: int) -> list[int]:
    """Append so many envelopes of a row; their positions."""
    return [queue.append(topic, b"%d" % i, 1).position for i in range(count)]
