"""What networks, proxies, disks and people do to a client: each row is there once, or told."""

from __future__ import annotations

import errno
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from canned_http import STORED, Canned, canned_http
from certificates import make_certificate
from ingest_lake import lake
from sent_spikes import NOBODY, TABLE, channels, send_each, spike
from torn_proxy import torn

from neuralake.client.connection import Connection
from neuralake.clock import SystemClock
from neuralake.errors import InvalidRows, NeedsAttention, Unavailable, UsageError
from neuralake.ingest import Client, Rejected
from neuralake.ingest.server import start_server
from neuralake.queue import Queue
from neuralake.settings import ServerSettings

REFUSED = b'{"type":"urn:neuralake:problem:invalid-rows","detail":"no","row":0}'


def delivered(client: Client) -> None:
    """Wait until all is; what needs a person is mended meanwhile."""
    while client.rows_waiting:
        with suppress(UsageError, Unavailable):
            client.flush()


def cut(body: bytes, status: int) -> Canned:
    head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return Canned(status, raw=head + body[:-3])


@pytest.mark.parametrize(
    "answer",
    [
        Canned(422, raw=b"HTTP/1.1 422 Unprocessable Entity\r\n"),
        Canned(409, raw=b"HTTP/1.1 409 Conflict\r\nContent-Le"),
        cut(REFUSED, 422),
        cut(STORED, 202),
        Canned(202, raw=b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
        Canned(202, b" " * 2_000_000),
    ],
    ids=["head", "head of a conflict", "refusal", "yes", "chunk", "endless"],
)
def test_an_answer_that_is_not_whole_is_none(answer: Canned) -> None:
    with canned_http([answer, answer, Canned(202, STORED)]) as (url, seen), Client(url) as client:
        client.send(TABLE, spike(1))
        client.flush()

    assert [request["neuralake-sequence"] for request in seen] == ["1", "1", "1"]
    assert len({request["body"] for request in seen}) == 1


@pytest.mark.parametrize("status", [400, 403, 409, 413, 422, 451])
@pytest.mark.parametrize("body", [b"<html>nginx</html>", b'{"type":"about:blank","row":0}', b"7"])
def test_what_stands_between_refuses_no_rows(status: int, body: bytes) -> None:
    """Only a server of ours knows that it will never take them."""
    rejected: list[Rejected] = []
    answers = [Canned(status, body), Canned(202, STORED)]
    with canned_http(answers) as (url, seen), Client(url, on_rejected=rejected.append) as client:
        client.send(TABLE, spike(1))
        delivered(client)

    assert len(seen) == 2
    assert not rejected


def test_facts_with_the_names_of_arguments_do_no_harm() -> None:
    said = b'{"type":"urn:neuralake:problem:invalid-rows","detail":"no","message":1,"self":2}'
    with canned_http([Canned(422, said)]) as (url, _):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(InvalidRows, match="no"):
            client.flush()
        client.close()


def test_waits_that_are_asked_for_in_strange_ways_are_bounded() -> None:
    answers = [Canned(503, retry_after=0), Canned(429, retry_after=10**40), Canned(202, STORED)]
    with canned_http(answers) as (url, seen), Client(url) as client:
        client.send(TABLE, spike(1))
        client.flush()

    assert len(seen) == 3


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_tear_anywhere_lose_and_double_nothing(
    url: str, queue: Queue, seed: int
) -> None:
    with torn(url, random.Random(seed)) as door, Client(door, batch_rows_max=5) as client:
        for number in range(40):
            send_each(client, range(5 * number, 5 * number + 5))
            delivered(client)

    assert channels(queue) == list(range(200))


@contextmanager
def trickling() -> Iterator[tuple[str, threading.Event]]:
    """A server whose answers come byte by byte and never end, and whether it was asked."""
    stop, asked = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                asked.set()
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stop.wait(0.01):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        finally:
            stop.set()
            thread.join()


def test_an_answer_that_trickles_is_given_up() -> None:
    with trickling() as (url, _):
        connection = Connection(url, clock=SystemClock(), answer_s_max=0.2)
        with pytest.raises(TimeoutError):
            connection.exchange("GET", "/v1")


def test_a_client_that_is_closed_does_not_wait_for_an_answer() -> None:
    with trickling() as (url, asked):
        client = Client(url)
        client.send(TABLE, spike(1))
        assert asked.wait(60)
        with pytest.raises(Unavailable):
            client.close(timeout_s=0.0)


def test_an_aborted_connection_begins_nothing() -> None:
    with canned_http([Canned(202, STORED)]) as (url, seen):
        connection = Connection(url, clock=SystemClock())
        connection.abort()
        with pytest.raises(ConnectionAbortedError):
            connection.exchange("POST", "/v1/lab/notes")

    assert not seen


@pytest.mark.parametrize("url", ["http://x:y", "http://x:99999", "ftp://x", "x:8765"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="not the URL of a server"):
        Client(url)


@pytest.mark.parametrize("token", ["read from a file\n", "ä", "a\r\nHost: b"])
def test_a_token_that_is_none_is_refused_at_once(token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        Client(NOBODY, token=token)


def test_a_certificate_that_is_not_trusted_is_told_at_once(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    given = lake(tmp_path)
    tls = ServerSettings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    catalog = given.bound_to(msgspec.structs.replace(given.settings, server=tls))
    with start_server(catalog) as server:
        client = Client(server.url)
        client.send(TABLE, spike(1))
        for call in (client.flush, client.flush, client.close):
            with pytest.raises(UsageError, match="SSL_CERT_FILE"):
                call()
    catalog.close()


def test_a_spool_on_a_full_disk_keeps_what_it_took(url: str, queue: Queue, tmp_path: Path) -> None:
    """With a limit on the size of files, which a write meets in the middle, as on a full disk."""
    child = [sys.executable, "-c", _FULL, str(tmp_path / "spool")]
    told = subprocess.run(child, capture_output=True, text=True, timeout=60, check=True).stdout
    with Client(url, spool=tmp_path / "spool"):
        pass

    taken = [int(word) for word in told.split()]
    assert 99 in taken
    assert 3 < len(taken) < 100
    assert channels(queue) == taken


_FULL = """
import os, resource, sys
from neuralake.errors import Unavailable
from neuralake.ingest import Client

client = Client("http://127.0.0.1:9", spool=sys.argv[1])
row = {"session": "s" * 700, "channel": 0}
for number in range(100):
    full = (9_000, resource.RLIM_INFINITY) if number < 99 else (resource.RLIM_INFINITY,) * 2
    resource.setrlimit(resource.RLIMIT_FSIZE, full)
    try:
        client.send("lab.spikes", row | {"channel": number})
    except Unavailable as error:
        assert error.rows_taken == 0
    else:
        print(number)
sys.stdout.flush()
os._exit(0)
"""


def test_a_disk_that_is_full_when_an_answer_comes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused is kept when there is room again; nothing stops for good."""
    from neuralake.client import spool

    fulls, whole = iter([True, True]), spool._write_whole

    def write(path: Path, content: bytes) -> None:
        if "rejected" in path.parts and next(fulls, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(spool, "_write_whole", write)
    answers = [Canned(422, REFUSED)] * 3 + [Canned(202, STORED)]
    with canned_http(answers) as (url, seen):
        client = Client(url, spool=tmp_path, batch_rows_max=1)
        send_each(client, [1, 2])
        with pytest.raises(InvalidRows) as caught:
            client.close()

    (refused,) = caught.value.rejected
    assert refused.rows() == [spike(1)]
    assert Path(refused.error.kept_in).read_bytes() == refused.content
    assert [request["neuralake-sequence"] for request in seen] == ["1"] * 4


def test_a_spool_that_is_removed_while_open_takes_nothing(tmp_path: Path) -> None:
    client = Client(NOBODY, spool=tmp_path)
    client.send(TABLE, spike(1))
    for file in (tmp_path / TABLE).glob("*.open"):
        file.unlink()
    with pytest.raises(Unavailable, match="removed") as caught:
        client.send(TABLE, spike(2))
    assert caught.value.rows_taken == 0
    with pytest.raises((Unavailable, NeedsAttention)):
        client.close(timeout_s=0.0)


@pytest.mark.parametrize("error", [OSError("full"), KeyError("x")])
def test_a_callback_that_fails_is_called_once_and_stops_the_table(error: Exception) -> None:
    called: list[Any] = []

    def fail(rejected: Rejected) -> None:
        called.append(rejected)
        raise error

    with canned_http([Canned(422, REFUSED)]) as (url, _):
        client = Client(url, on_rejected=fail)
        client.send(TABLE, spike(1))
        with pytest.raises(NeedsAttention, match="on_rejected raised"):
            client.close()

    assert len(called) == 1
