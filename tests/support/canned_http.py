"""An HTTP server with answers that a test has written down; it keeps what it was sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["STORED", "Canned", "canned_http"]

STORED = b'{"position":1}'


@dataclass(frozen=True, slots=True)
class Canned:
    """An answer; status 0 closes the connection instead."""

    status: int
    body: bytes = b"{}"
    retry_after: int | None = None
    queue: str = "canned"
    """Which queue it says it is of; empty: it does not say."""
    raw: bytes | None = None
    """All that is sent, as it is, before the connection is closed."""


@contextlib.contextmanager
def canned_http(
    answers: Sequence[Canned], *, topics: Canned = Canned(200, b'{"queue":"canned","topics":[]}')
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL, and the posts that came: headers in lower case, and `body`.

    The last answer is given for ever. `topics` answers whatever is asked by GET.
    """
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = answers[min(len(seen), len(answers) - 1)]
            seen.append({name.lower(): value for name, value in self.headers.items()})
            seen[-1]["body"] = body
            self._answer(answer)

        def do_GET(self) -> None:
            self._answer(topics)

        def _answer(self, answer: Canned) -> None:
            if answer.raw is not None or not answer.status:
                self.wfile.write(answer.raw or b"")
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            if answer.queue:
                self.send_header("neuralake-queue", answer.queue)
            self.send_header("content-length", str(len(answer.body)))
            if answer.retry_after is not None:
                self.send_header("retry-after", str(answer.retry_after))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()
