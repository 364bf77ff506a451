"""A door between a client and a server at which a test can count, stop and cut off requests.

Requests of all connections pass one `judge` in the order in which they come. It sees each twice:
before it is forwarded, and when the server's answer is there but not yet passed on. It may do
something meanwhile (kill the client), let it pass, cut the connection or answer with an error of
its own: before, the server never saw the request; after, the client does not learn the outcome.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Request", "Verdict", "gate"]

Verdict = Literal["pass", "cut", "503", "500"]

# As S3 says that it is busy (nothing was done) or failed (something may have been done).
_CODES: dict[Verdict, str] = {"503": "SlowDown", "500": "InternalError"}

# Of one hop only, or made anew by the sender's library.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request at the door. `is_answered`: the server has done it."""

    number: int
    method: str
    path: str
    target: str
    """What DynamoDB is asked to do (`PutItem`), empty for S3."""
    is_copy: bool
    is_answered: bool

    def __str__(self) -> str:
        moment = "after" if self.is_answered else "before"
        verb = self.target or ("COPY" if self.is_copy else self.method)
        return f"{moment} {self.number}: {verb} {self.path}"


class _Stop(Exception):
    """The request goes no further, or its answer."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


@contextlib.contextmanager
def gate(upstream: str, judge: Callable[[Request], Verdict]) -> Iterator[str]:
    """The endpoint of a door to `upstream`. `judge` says what becomes of a request.

    It is called by one thread at a time. Requests are numbered from 0.
    """
    lock = threading.Lock()
    numbers = iter(range(1 << 60))

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Answers are small; waiting to fill a packet costs 40 ms each.
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            at = urlsplit(upstream)
            assert at.hostname is not None
            self._server = http.client.HTTPConnection(at.hostname, at.port, timeout=60)

        def finish(self) -> None:
            self._server.close()
            with contextlib.suppress(OSError):
                super().finish()

        def parse_request(self) -> bool:
            # Every method is handled alike.
            if not super().parse_request():
                return False
            setattr(self, f"do_{self.command}", self._pass_on)
            return True

        def _pass_on(self) -> None:
            try:
                self._forward()
            except _Stop as stop:
                if stop.verdict == "cut":
                    self.close_connection = True
                else:
                    self._refuse(stop.verdict)
            except OSError:
                self.close_connection = True

        def _refuse(self, verdict: Verdict) -> None:
            code = _CODES[verdict]
            text = f"<Error><Code>{code}</Code><Message>The door says so.</Message></Error>"
            if "x-amz-target" in self.headers:
                text = '{"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"}'
            self.send_response_only(int(verdict))
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with lock:
                number = next(numbers)
            self._judge(number, is_answered=False)
            # The host stays as the client signed it.
            self._server.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    self._server.putheader(name, value)
            self._server.putheader("content-length", str(len(body)))
            self._server.endheaders(body)
            with self._server.getresponse() as answer:
                data = answer.read()
                self._judge(number, is_answered=True)
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                # The answer to HEAD tells the length of what it does not send.
                length = answer.getheader("content-length", "0") if not data else str(len(data))
                self.send_header("content-length", length)
                self.end_headers()
                self.wfile.write(data)

        def _judge(self, number: int, *, is_answered: bool) -> None:
            request = Request(
                number=number,
                method=self.command,
                path=self.path,
                target=self.headers.get("x-amz-target", "").rpartition(".")[2],
                is_copy="x-amz-copy-source" in self.headers,
                is_answered=is_answered,
            )
            with lock:
                verdict = judge(request)
            if verdict != "pass":
                raise _Stop(verdict)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: the judge may write down what passes."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
