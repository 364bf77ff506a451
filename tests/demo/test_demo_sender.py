"""A sender delivers each batch until it is acknowledged, with one key, over kills and refusals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from canned_http import STORED
from lab_project import eventually

from neuralake.clock import SystemClock
from neuralake.demo.sender import Sender
from neuralake.demo.sources import Batch
from neuralake.errors import NeedsAttention


class Numbers:
    """Three batches of ten rows, all due at once."""

    table = "lab.events"
    interval_s = 0.01

    def __init__(self) -> None:
        self.left = [Batch(first, 10, "application/json", b"[]") for first in (0, 10, 20)]

    def due(self, elapsed_s: float) -> Batch | None:
        del elapsed_s
        return self.left.pop(0) if self.left else None

    def is_over(self, elapsed_s: float) -> bool:
        del elapsed_s
        return not self.left


@dataclass
class Server:
    """Answers with the given statuses in turn, then 202; 0 closes the connection unanswered."""

    statuses: list[int]
    url: str = ""
    keys: list[str] = field(default_factory=list)


@contextmanager
def serving(*statuses: int) -> Iterator[Server]:
    server = Server(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            server.keys.append(self.headers["Idempotency-Key"])
            status = server.statuses.pop(0) if server.statuses else 202
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(STORED)))
            self.end_headers()
            self.wfile.write(STORED)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def sent(url: str) -> Sender:
    sender = Sender(url, Numbers(), run="r", stop=threading.Event(), clock=SystemClock())
    sender.start()
    sender.join(60)
    return sender


def test_every_batch_is_acknowledged_once() -> None:
    with serving() as server:
        sender = sent(server.url)

    assert sender.acknowledged == [(0, 10), (10, 10), (20, 10)]
    assert (sender.rows, sender.retries, sender.error) == (30, 0, None)


@pytest.mark.parametrize("status", [0, 429, 503])
def test_a_batch_without_a_yes_is_sent_again_with_the_same_key(status: int) -> None:
    with serving(202, status, status) as server:
        sender = sent(server.url)

    assert sender.acknowledged == [(0, 10), (10, 10), (20, 10)]
    assert server.keys == [f"r-lab.events-{first}" for first in (0, 10, 10, 10, 20)]
    assert sender.retries == 2


def test_a_refused_batch_ends_the_sender_with_the_reason() -> None:
    with serving(202, 422) as server:
        sender = sent(server.url)

    assert sender.acknowledged == [(0, 10)]
    assert isinstance(sender.error, NeedsAttention)
    assert sender.error.status == 422


def test_a_stop_waits_for_the_batch_that_is_on_its_way() -> None:
    """The server was away when the stop came, and is back a moment later."""
    stop = threading.Event()
    with serving(*[503] * 100_000) as server:
        sender = Sender(server.url, Numbers(), run="r", stop=stop)
        sender.start()
        assert eventually(lambda: sender.is_waiting)
        stop.set()
        del server.statuses[2:]
        sender.join(60)

    assert (sender.acknowledged, sender.unanswered) == ([(0, 10)], [])
