"""`AsyncClient`: the same client for programs with an event loop, which it never blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from neuralake.client.client import Client

__all__ = ["AsyncClient"]


class AsyncClient:
    """`Client`, awaited. It takes the same arguments, and raises the same errors.

    Rows are delivered by the same thread. Calls of `send` take their turns in another one, where
    they wait for the disk or for room: tasks that send at once do so in the order of their calls.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = Client(url, **options)
        # Threads of our own: many that wait for room would use up the loop's.
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="neuralake-send")
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix="neuralake-flush")

    @property
    def rows_waiting(self) -> int:
        """As `Client.rows_waiting`."""
        return self._client.rows_waiting

    async def send(self, table: str, rows: Any) -> None:
        """As `Client.send`. A call that is cancelled may have taken the rows, all of them."""
        await self._run(self._sending, self._client.send, table, rows)

    async def flush(self, timeout_s: float = 60.0) -> None:
        """As `Client.flush`."""
        await self._run(self._waiting, self._client.flush, timeout_s)

    async def close(self, timeout_s: float = 60.0) -> None:
        """As `Client.close`."""
        try:
            await self._run(self._waiting, self._client.close, timeout_s)
        finally:
            self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._run(self._waiting, self._client.__exit__, kind, error, traceback)
        finally:
            self._end()

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[..., None], *args: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(pool, call, *args)

    def _end(self) -> None:
        self._sending.shutdown(wait=False)
        self._waiting.shutdown(wait=False)
