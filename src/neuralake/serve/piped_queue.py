"""The queue as a query process sees it: the gateway reads it, and sends its rows down the pipe.

The process has no queue of its own: it would need the lake's secrets, and the code that makes rows
of other people's messages. An envelope here is a page of rows in the table's declared schema.
"""

from __future__ import annotations

from collections.abc import Callable

from neuralake.errors import Conflict
from neuralake.queue import Bounds, Envelope
from neuralake.queue.protocol import READ_BYTES_MAX, READ_ENVELOPES_MAX
from neuralake.serve.messages import AskPage, AskQueue, Page, QueueState

__all__ = ["PipedQueue"]


class PipedQueue:
    """A `QueueReader` of one table's topic, for one query.

    Args:
        ask: sends a question and gives the answer, or raises what the gateway met.
    """

    def __init__(
        self, database: str, table: str, ask: Callable[[AskQueue | AskPage], object]
    ) -> None:
        self._database, self._table, self._ask = database, table, ask
        self._state = self._look()

    @property
    def id(self) -> str:
        return self._state.queue

    def partitions(self, topic: str) -> list[str]:  # noqa: ARG002 there is one
        self._state = self._look()
        return list(self._state.partitions)

    def bounds(self, partition: str) -> Bounds:
        found = self._look()
        if found.queue != self._state.queue:
            self._state = found
            raise Conflict("The queue was made anew while it was read.")
        last, trimmed = found.partitions[partition]
        return Bounds(last=last, trimmed=trimmed, rows=0, bytes=0)

    def read(
        self,
        partition: str,
        *,
        after: int,
        envelopes_max: int = READ_ENVELOPES_MAX,  # noqa: ARG002 of a protocol
        bytes_max: int = READ_BYTES_MAX,  # noqa: ARG002 the gateway's own bound is lower
    ) -> list[Envelope]:
        question = AskPage(
            database=self._database, table=self._table, partition=partition, after=after
        )
        page = self._ask(question)
        assert isinstance(page, Page)  # noqa: S101 it answers this question; for mypy
        if page.queue != self._state.queue:
            raise Conflict("The queue was made anew while it was read.")
        if page.position <= after:
            return []
        return [Envelope(page.position, page.payload, page.rows, 0.0)]

    def _look(self) -> QueueState:
        state = self._ask(AskQueue(database=self._database, table=self._table))
        assert isinstance(state, QueueState)  # noqa: S101 it answers this question; for mypy
        return state
