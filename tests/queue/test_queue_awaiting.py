"""Claims about awaiting a queue in an event loop."""

import asyncio
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path

import pytest

from neuralake.errors import QueueFull
from neuralake.queue import SqliteQueue
from neuralake.queue.awaiting import awaited


def test_many_tasks_each_get_their_own_position(tmp_path: Path) -> None:
    with closing(SqliteQueue(tmp_path / "queue.sqlite")) as queue:

        async def append(i: int) -> tuple[int, bytes]:
            payload = b"%d" % i
            return (await awaited(queue.submit("t", payload, 1))).position, payload

        async def run() -> list[tuple[int, bytes]]:
            return await asyncio.gather(*(append(i) for i in range(500)))

        acknowledged = asyncio.run(run())

        assert sorted(acknowledged) == [(e.position, e.payload) for e in queue.read("t", after=0)]


def test_an_error_is_raised_where_it_is_awaited() -> None:
    async def run() -> None:
        failed: Future[int] = Future()
        failed.set_exception(QueueFull("full"))
        with pytest.raises(QueueFull):
            await awaited(failed)

    asyncio.run(run())


def test_a_cancelled_await_leaves_the_append_alone_and_the_others_too() -> None:
    async def run() -> int:
        first: Future[int] = Future()
        second: Future[int] = Future()
        waiting = [asyncio.ensure_future(awaited(each)) for each in (first, second)]
        waiting[0].cancel()
        with suppress(asyncio.CancelledError):
            await waiting[0]
        assert not first.cancelled()
        first.set_result(1)
        second.set_result(2)
        return await waiting[1]

    assert asyncio.run(run()) == 2


def test_a_cancelled_future_cancels_its_await() -> None:
    async def run() -> None:
        future: Future[int] = Future()
        waiting = awaited(future)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())


def test_a_future_may_complete_after_its_loop_is_closed() -> None:
    future: Future[int] = Future()

    async def run() -> None:
        awaited(future)

    asyncio.run(run())
    future.set_result(1)

    assert future.result() == 1
