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
        limit_concurrency=connections_max + 1,
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

        assert LEFT.wait(60)


def test_connections_beyond_the_most_are_closed_at_once() -> None:
    with serving(Patient, connections_max=5) as port:
        kept = [connected(port) for _ in range(5)]
        with connected(port) as late:
            assert until_closed(late).startswith(b"HTTP/1.1 503")
        for client in kept:
            client.close()


class Crowded(BoundedConnection):
    """Time closes nobody; only that there is no room."""

    head_s = body_s = drain_s = 1000.0
    spare_s = 0.05


SLOW = [b"", HEAD, HEAD + b"Content-Length: 99999\r\n\r\n"]


@contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Clients that each send a byte now and then of a head, or of a body, or nothing."""
    clients = [connected(port) for _ in range(count)]
    stop = threading.Event()
    for number, client in enumerate(clients):
        client.sendall(SLOW[number % len(SLOW)])

    def dribble() -> None:
        while not stop.wait(0.01):
            for client in clients[1::3] + clients[2::3]:
                with suppress(OSError):  # Closed by now.
                    client.send(b"x")

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        yield clients
    finally:
        stop.set()
        thread.join()
        for client in clients:
            client.close()


def answered(port: int) -> bool:
    """A new client's request; it is told to come back while nobody is far enough behind."""
    answer = httpx.post(f"http://127.0.0.1:{port}/", content=b"abc", timeout=60)
    assert answer.status_code in (200, 503)
    return answer.status_code == 200


def test_however_many_are_held_open_others_are_served() -> None:
    with serving(Crowded, connections_max=12) as port, crowd(port, 12):
        for _ in range(20):
            while not answered(port):
                pass


def test_who_sends_at_a_fair_speed_is_not_closed_for_others() -> None:
    with (
        serving(Crowded, connections_max=12) as port,
        crowd(port, 11),
        connected(port) as honest,
    ):
        honest.sendall(HEAD + b"Content-Length: 80000\r\n\r\n")
        for _ in range(8):
            honest.sendall(bytes(10_000))
            while not answered(port):
                pass

        assert honest.recv(100).startswith(b"HTTP/1.1 200")


def test_the_most_connections_is_never_exceeded() -> None:
    with serving(Crowded, connections_max=12) as port, crowd(port, 40) as clients:
        while not answered(port):
            pass
        still_open = sum(map(is_open, clients))

    assert still_open <= 12


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False  # What it says is that it is closed.


def test_large_and_chunked_bodies_of_honest_clients_come_through() -> None:
    with serving(Patient) as port, httpx.Client(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/"

        assert client.post(url, content=bytes(5_000_000)).text == "5000000"
        assert client.post(url, content=(b"x" for _ in range(20_000))).text == "20000"
        assert client.post(url, content=b"", headers={"X": "y" * 30_000}).text == "0"
        assert client.get(url).text == "0"
