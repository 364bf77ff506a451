"""Time in which the server does not read is not held against a sender: its timers stand still.

The loop's time is turned by hand, so nobody waits, and the bounds are the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from turned_loop import TurnedLoop
from uvicorn.server import ServerState

from neuralake.ingest.connection import BoundedConnection

HEAD = b"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


class Pipelining:
    """A client whose first request is held, and of whose second a part is there."""

    def __init__(self, loop: TurnedLoop) -> None:
        self.loop, self.is_held, self._release = loop, asyncio.Event(), asyncio.Event()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def held(self, request: Request) -> Response:
        await request.body()
        self.is_held.set()
        await self._release.wait()
        return Response("first")

    async def release(self) -> None:
        self._release.set()
        assert await self.answer() == b"first"

    async def answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        return await self.reader.readexactly(int(length))


async def echo(request: Request) -> Response:
    return Response(await request.body())


@asynccontextmanager
async def pipelining(loop: TurnedLoop) -> AsyncIterator[Pipelining]:
    client = Pipelining(loop)
    routes = [
        Route("/held", client.held, methods=["POST"]),
        Route("/echo", echo, methods=["POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_level="critical")
    config.load()
    state, connections = ServerState(), list[BoundedConnection]()

    def connected() -> BoundedConnection:
        connections.append(BoundedConnection(config, state, {}, loop))
        return connections[-1]

    async with await loop.create_server(connected, "127.0.0.1", 0) as server:
        client.reader, client.writer = await asyncio.open_connection(
            *server.sockets[0].getsockname()
        )
        client.writer.write(HEAD % (b"held", 1) + b"1")
        await client.is_held.wait()
        client.writer.write(HEAD % (b"echo", 4) + b"ab")
        while not connections[0].pipeline:
            await asyncio.sleep(0)
        try:
            yield client
        finally:
            client.writer.close()
            while state.connections or state.tasks:
                await asyncio.sleep(0)


def run(story: Callable[[Pipelining], Awaitable[None]]) -> None:
    async def told() -> None:
        async with asyncio.timeout(10_000), pipelining(loop) as client:
            await story(client)

    loop = TurnedLoop()
    try:
        loop.run_until_complete(told())
    finally:
        loop.close()


@pytest.mark.parametrize("commit_s", [1, 19, 21, 39, 1000])
def test_a_body_that_waits_for_a_slow_commit_is_not_a_slow_one(commit_s: float) -> None:
    async def story(client: Pipelining) -> None:
        await client.loop.skip(commit_s)
        await client.release()
        await client.loop.skip(BoundedConnection.body_s - 1)
        client.writer.write(b"cd")

        assert await client.answer() == b"abcd"

    run(story)


def test_a_body_that_does_not_come_after_a_slow_commit_is_not_waited_for() -> None:
    async def story(client: Pipelining) -> None:
        await client.loop.skip(1000)
        await client.release()
        await client.loop.skip(BoundedConnection.body_s + 1)

        assert await client.reader.read() == b""

    run(story)
