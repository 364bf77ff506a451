"""Small requests of many senders share envelopes: what comes while others are stored, goes next.

A sensor sends one row and waits. With a hundred of them, an envelope each costs more in making it
than in storing it; one for all that wait costs the same as for one. A lone request waits for
nobody, and groups grow with load, as in the queue's own group commit (`queue/group.py`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from neuralake.errors import NeuralakeError, TooLarge
from neuralake.queue import Appended, Queue
from neuralake.queue.awaiting import awaited
from neuralake.records.decode import SMALL_CELLS_MAX, Decoder
from neuralake.records.dropped import Dropped
from neuralake.records.encoded import Encoded
from neuralake.records.evolving import EvolvingDecoder
from neuralake.records.rows import Row

__all__ = ["Combiner", "SmallRequest"]

# Reading so many as one is quicker than each by itself: half a millisecond, whatever their number.
_QUICK_MIN = 16
# Decoding so much takes 2 ms, in which nobody else is served; so does much less, row by row.
_GROUP_BYTES_MAX = 256 * 1024
_EXACT_BYTES_MAX = 16 * 1024
# Twice as many as there may be connections: more are of clients that went away.
_WAITING_MAX = 1024
_log = logging.getLogger(__name__)


class SmallRequest(ABC):
    """A request whose rows may travel with those of others. One of three ends is told, once."""

    __slots__ = ("_is_ended", "body", "dropped", "reader", "rows")

    def __init__(self, body: bytes, reader: str) -> None:
        self.body, self.reader = body, reader
        self.rows = 0
        """How many it has, once that is known."""
        self.dropped: Dropped | None = None
        """Columns that were left out."""
        self._is_ended = False

    def end(self, tell: Callable[..., None], *what: Any) -> None:
        """`tell` it its end, if none was told yet. A fault in that is logged, and nobody else's."""
        if self._is_ended:
            return
        self._is_ended = True
        try:
            tell(*what)
        except Exception:  # noqa: BLE001 others wait for theirs
            _log.exception("the end of a small request could not be told")

    @abstractmethod
    def stored(self, appended: Appended) -> None:
        """Its rows are durable."""

    @abstractmethod
    def failed(self, error: BaseException) -> None:
        """They could not be stored; after an error that is not ours nobody knows if they are."""

    @abstractmethod
    def declined(self) -> None:
        """It must be read alone, by those who can say what is wrong with it; nothing is stored."""


class Combiner:
    """Stores the rows of small requests for one table. Use it from one event loop.

    Requests that share an envelope share its position.
    """

    def __init__(self, queue: Queue, topic: str, decoder: Decoder | EvolvingDecoder) -> None:
        self._queue, self._topic, self._decoder = queue, topic, decoder
        self._waiting: list[SmallRequest] = []
        self._task: asyncio.Task[None] | None = None

    def takes(self, body_bytes: int, reader: str) -> bool:
        """Whether a body of so many bytes is one for `add`."""
        return len(self._waiting) < _WAITING_MAX and self._decoder.is_small(body_bytes, reader)

    def add(self, request: SmallRequest) -> None:
        """Store the rows of `request`, all of them or none; it is told what became of them."""
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def drained(self) -> None:
        """Return when all that was added has been told its end."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                for group in self._groups(taken, _GROUP_BYTES_MAX):
                    await self._store_or_fail(group)
        finally:
            self._task = None

    def _groups(
        self, requests: Sequence[SmallRequest], bytes_max: int
    ) -> Iterator[Sequence[SmallRequest]]:
        """`requests` in groups of bounded size: three bytes may be a row of a thousand cells."""
        first = held_bytes = held_cells = 0
        for at, request in enumerate(requests):
            size, cells = len(request.body), self._decoder.cells(request.body)
            if at > first and (
                held_bytes + size > bytes_max or held_cells + cells > SMALL_CELLS_MAX
            ):
                yield requests[first:at]
                first, held_bytes, held_cells = at, 0, 0
            held_bytes += size
            held_cells += cells
        yield requests[first:]

    async def _store_or_fail(self, group: Sequence[SmallRequest]) -> None:
        try:
            await self._store(group)
        except Exception as error:  # noqa: BLE001 each of them is told
            _log.exception("a group of small requests for %s failed", self._topic)
            for request in group:
                request.end(request.failed, error)

    async def _store(self, group: Sequence[SmallRequest]) -> None:
        if len(group) >= _QUICK_MIN:
            counts = [self._decoder.count(request.body, request.reader) for request in group]
            counted = [request for request, count in zip(group, counts, strict=True) if count]
            encoded = self._decoder.quick([request.body for request in counted])
            if encoded is not None:
                for request, count in zip(group, counts, strict=True):
                    request.rows = count or 0
                await self._append(counted, encoded)
                group = [r for r, count in zip(group, counts, strict=True) if not count]
        for part in self._groups(group, _EXACT_BYTES_MAX) if group else ():
            await self._store_exactly(part)

    async def _store_exactly(self, group: Sequence[SmallRequest]) -> None:
        read = [(request, found) for request in group if (found := self._few(request)) is not None]
        try:
            encoded = self._decoder.joined([row for _, rows in read for row in rows])
        except NeuralakeError:  # Only those that it concerns are to hear of it.
            read = [(request, rows) for request, rows in read if self._is_fit(request, rows)]
            encoded = self._decoder.joined([row for _, rows in read for row in rows])
        await self._append([request for request, _ in read], encoded)

    def _few(self, request: SmallRequest) -> list[Row] | None:
        """The rows of one request; None: it was declined."""
        request.dropped = Dropped()
        try:
            found = self._decoder.few(request.body, request.reader, dropped=request.dropped)
        except NeuralakeError:
            found = None
        if found is None:
            request.end(request.declined)
            return None
        request.rows = len(found)
        return found

    def _is_fit(self, request: SmallRequest, rows: Sequence[Row]) -> bool:
        try:
            self._decoder.joined(rows)
        except NeuralakeError:
            request.end(request.declined)
            return False
        return True

    async def _append(self, group: Sequence[SmallRequest], encoded: Encoded) -> None:
        if not group:
            return
        try:
            appended = await awaited(self._queue.submit(self._topic, encoded.payload, encoded.rows))
        except TooLarge as error:
            if len(group) == 1:
                group[0].end(group[0].failed, error)
                return
            half = len(group) // 2  # Smaller ones may fit.
            await self._store(group[:half])
            await self._store(group[half:])
        except NeuralakeError as error:
            for request in group:
                request.end(request.failed, error)
        else:
            for request in group:
                request.end(request.stored, appended)
