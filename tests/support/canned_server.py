"""An HTTP server that gives the answers that a test has written down, one after the other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answer", "canned"]

_REMOVED = b"<DeleteResult><Deleted><Key>any</Key></Deleted></DeleteResult>"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with an S3 error code in its body; status 0 closes the connection instead."""

    status: int
    code: str = ""
    text: str = ""
    """More of the body, as servers quote requests in it."""

    def body(self) -> bytes:
        if not self.code:
            return b""
        return f"<Error><Code>{self.code}</Code><Message>{self.text}</Message></Error>".encode()


@contextlib.contextmanager
def canned(answers: Sequence[Answer]) -> Iterator[tuple[str, list[str]]]:
    """The endpoint, and the requests that came (`PUT /key`). The last answer is given for ever."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            setattr(self, f"do_{self.command}", self._answer)
            return True

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = answers[min(len(seen), len(answers) - 1)]
            seen.append(f"{self.command} {self.path}")
            if not answer.status:
                self.close_connection = True
                return
            # The one request of ours whose good answer must have a body is the bulk removal.
            body = answer.body() or (_REMOVED if self.command == "POST" else b"")
            self.send_response_only(answer.status)
            self.send_header("content-length", str(len(body)))
            self.send_header("etag", '"canned"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()
