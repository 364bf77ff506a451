"""Small requests of many senders share envelopes: what comes while others are stored, goes next.

A sensor sends one row and waits. With a hundred of them, an envelope each costs more in making it
than in storing it; one for all that wait costs the same as for one. A lone request waits for
nobody, and groups grow with load, as in the queue's own group commit (`queue/group.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from neuralake.errors import NeuralakeError, TooLarge
from neuralake.queue import Appended, Queue
from neuralake.queue.awaiting import awaited
from neuralake.records.decode import Decoder
from neuralake.records.evolving import EvolvingDecoder
from neuralake.records.rows import Row

__all__ = ["Combiner"]


@dataclass(slots=True)
class _Request:
    rows: list[Row]
    stored: asyncio.Future[Appended]

    def fail(self, error: BaseException) -> None:
        if not self.stored.done():  # Its sender may have left.
            self.stored.set_exception(error)


class Combiner:
    """Stores the rows of small requests for one table. Use it from one event loop."""

    def __init__(self, queue: Queue, topic: str, decoder: Decoder | EvolvingDecoder) -> None:
        self._queue, self._topic, self._decoder = queue, topic, decoder
        self._waiting: list[_Request] = []
        self._task: asyncio.Task[None] | None = None

    async def store(self, rows: list[Row]) -> Appended:
        """Store the rows of one request, all of them or none; durable when this returns.

        Requests that share an envelope share its position.

        Raises:
            InvalidRows, SchemaMismatch: a row cannot be in any partition; nothing is stored.
            QueueFull, TooLarge, Unavailable, NeedsAttention: as `Queue.append`.
        """
        request = _Request(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await request.stored

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._store(group)
        except BaseException as error:
            for request in [*group, *self._waiting]:
                request.fail(error)
            self._waiting = []
            raise
        finally:
            self._task = None

    async def _store(self, group: Sequence[_Request]) -> None:
        try:
            encoded = self._decoder.joined([row for request in group for row in request.rows])
        except NeuralakeError as error:
            if len(group) == 1:
                group[0].fail(error)
                return
            for request in group:  # Only the one that it concerns is to hear of it.
                await self._store([request])
            return
        try:
            appended = await awaited(self._queue.submit(self._topic, encoded.payload, encoded.rows))
        except TooLarge as error:
            if len(group) == 1:
                group[0].fail(error)
                return
            half = len(group) // 2  # Smaller ones may fit.
            await self._store(group[:half])
            await self._store(group[half:])
            return
        except NeuralakeError as error:
            for request in group:
                request.fail(error)
            return
        for request in group:
            if not request.stored.done():
                request.stored.set_result(appended)
