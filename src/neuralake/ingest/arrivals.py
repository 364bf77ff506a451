"""Wait until a partition of the queue has something behind a position.

One look at the queue serves all who wait for the same partition, and nobody looks while nobody
waits. Looks are made in threads: no request waits for another one's disk or network.
"""

from __future__ import annotations

import asyncio

from neuralake.queue import QueueReader

__all__ = ["Arrivals"]

# A look takes some 20 microseconds of the embedded queue, and a question to the brokers of Kafka.
_POLL_S = 0.02


class Arrivals:
    """What arrives in one queue. Use it from one event loop."""

    def __init__(self, queue: QueueReader) -> None:
        self._queue = queue
        self._waiters: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._is_over = False

    async def behind(self, partition: str, after: int, *, timeout_s: float) -> None:
        """Returns when there is something, when time is up, or after `end`.

        Raises what the queue raises when it is asked.
        """
        if self._is_over:
            return
        waiter = (after, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(partition, []).append(waiter)
        if partition not in self._watches:
            self._watches[partition] = asyncio.create_task(self._watch(partition))
        try:
            await asyncio.wait([waiter[1]], timeout=timeout_s)
        finally:
            self._waiters[partition].remove(waiter)
        if waiter[1].done():
            waiter[1].result()

    def end(self) -> None:
        """Let everybody go who waits, now and from now on: the server stops."""
        self._is_over = True
        for waiters in self._waiters.values():
            for _, future in waiters:
                if not future.done():
                    future.set_result(None)

    async def _watch(self, partition: str) -> None:
        try:
            while waiters := self._waiters[partition]:
                try:
                    last = (await asyncio.to_thread(self._queue.bounds, partition)).last
                except Exception as error:  # noqa: BLE001 whatever it is, the waiters must hear it
                    for _, future in waiters:
                        if not future.done():
                            future.set_exception(error)
                    return
                for after, future in waiters:
                    if after < last and not future.done():
                        future.set_result(None)
                await asyncio.sleep(_POLL_S)
        finally:
            del self._watches[partition]
