"""`AsyncClient`: the same client for programs with an event loop, which it never blocks."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Any, Self

from neuralake.client.client import Client

__all__ = ["AsyncClient"]


class AsyncClient:
    """`Client`, awaited. It takes the same arguments, and raises the same errors.

    Rows are delivered by the same thread; `send` waits in another one for room and for the disk.
    Tasks that send to one table at once do so in any order; one after the other, in theirs.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = Client(url, **options)

    @property
    def rows_waiting(self) -> int:
        """As `Client.rows_waiting`."""
        return self._client.rows_waiting

    async def send(self, table: str, rows: Any) -> None:
        """As `Client.send`. A cancelled call may have taken the rows, all of them."""
        await asyncio.to_thread(self._client.send, table, rows)

    async def flush(self, timeout_s: float = 60.0) -> None:
        """As `Client.flush`."""
        await asyncio.to_thread(self._client.flush, timeout_s)

    async def close(self, timeout_s: float = 60.0) -> None:
        """As `Client.close`."""
        await asyncio.to_thread(self._client.close, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(partial(self._client.__exit__, kind, error, traceback))
