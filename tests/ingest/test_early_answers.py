"""Who is answered before the body is there, and then sends nothing more, is not kept for ever."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from turned_loop import TurnedLoop
from uvicorn.server import ServerState

from neuralake.ingest.connection import BoundedConnection

HEAD = b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"


async def early(_: Request) -> Response:
    return Response()


class Counting(BoundedConnection):
    """It says how much it has read."""

    received = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)


@pytest.mark.parametrize("rest", [b"", b"x", b"xy", b"xyPOST / HT", b"xy" + HEAD + b"xy"])
def test_a_connection_is_closed_whatever_comes_after_an_early_answer(rest: bytes) -> None:
    loop = TurnedLoop()
    try:
        loop.run_until_complete(is_closed_after(loop, rest))
    finally:
        loop.close()


async def is_closed_after(loop: TurnedLoop, rest: bytes) -> None:
    app = Starlette(routes=[Route("/early", early, methods=["POST"])])
    config = uvicorn.Config(app, lifespan="off", log_level="critical")
    config.load()
    state, connection = ServerState(), asyncio.Future[Counting]()

    def connected() -> Counting:
        made = Counting(config, state, {}, loop)
        connection.set_result(made)
        return made

    async with asyncio.timeout(1000), await loop.create_server(connected, "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(HEAD)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(rest)
        while (await connection).received < len(HEAD + rest):
            await asyncio.sleep(0)
        if HEAD in rest:
            await reader.readuntil(b"\r\n\r\n")

        assert (await connection)._is_waited_for, "others may have its place"
        await loop.skip(BoundedConnection.head_s + 1)
        assert await reader.read() == b""

        writer.close()
        while state.connections or state.tasks:
            await asyncio.sleep(0)
