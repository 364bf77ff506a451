"""Clients that send without end, too slowly, or do not read, hold nothing for long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from neuralake.ingest.connection import BoundedConnection

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


class Quick(BoundedConnection):
    """The same, but nobody waits long."""

    head_s = body_s = drain_s = 0.1


class Patient(BoundedConnection):
    """Nobody is closed for being slow."""

    head_s = body_s = drain_s = 1000.0


async def echo(request: Request) -> Response:
    return Response(str(len(await request.body())))


LEFT = threading.Event()


async def endless(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)
        finally:
            LEFT.set()

    return StreamingResponse(parts())


@contextmanager
def serving(kind: type[BoundedConnection], *, connections_max: int = 100) -> Iterator[int]:
    """The port of a server whose connections are of `kind`."""
    app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"]), Route("/endless", endless)])
    config = uvicorn.Config(
        app,
        port=0,
        http=kind,
        log_level="critical",
        lifespan="off",
        limit_concurrency=connections_max,
    )
    server, listener = uvicorn.Server(config), config.bind_socket()
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def until_closed(client: socket.socket) -> bytes:
    """What the server says before it closes; a reset is a way to close."""
    found = b""
    try:
        while part := client.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEAD[:9],
        HEAD + b"X: ",
        HEAD + b"Content-Length: 9\r\n\r\n",
        HEAD + b"Content-Length: 9\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        HEAD + b"Content-Length: 1\r\n\r\na" + HEAD,
    ],
)
def test_a_request_that_does_not_come_is_not_waited_for(sent: bytes) -> None:
    with serving(Quick) as port, connected(port) as client:
        client.sendall(sent)

        assert until_closed(client)[:12] in (b"", b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"POST /", b"a" * 4096),
        (HEAD + b"X: ", b"a" * 4096),
        (HEAD, b"X: a\r\n" * 700),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X: a\r\n" * 700),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ", b"a" * 4096),
    ],
)
def test_a_head_without_end_is_cut(begin: bytes, more: bytes) -> None:
    with serving(Patient) as port, connected(port) as client:
        client.sendall(begin)
        with suppress(ConnectionError):
            while True:
                client.sendall(more)

        assert until_closed(client)[:12] in (b"", b"HTTP/1.1 200", b"HTTP/1.1 431")


def test_a_client_that_does_not_read_is_left() -> None:
    LEFT.clear()
    with serving(Quick) as port, connected(port) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert LEFT.wait(30)


def test_connections_beyond_the_most_are_closed_at_once() -> None:
    with serving(Patient, connections_max=5) as port:
        kept = [connected(port) for _ in range(5)]
        with connected(port) as late:
            assert until_closed(late).startswith(b"HTTP/1.1 503")
        for client in kept:
            client.close()


def test_large_and_chunked_bodies_of_honest_clients_come_through() -> None:
    with serving(BoundedConnection) as port, httpx.Client() as client:
        url = f"http://127.0.0.1:{port}/"

        assert client.post(url, content=bytes(5_000_000)).text == "5000000"
        assert client.post(url, content=(b"x" for _ in range(20_000))).text == "20000"
        assert client.post(url, content=b"", headers={"X": "y" * 30_000}).text == "0"
        assert client.get(url).text == "0"
