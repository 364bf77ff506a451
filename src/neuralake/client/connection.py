"""One kept HTTP connection to a server, and what its answers mean.

It never tries again nor waits: that is for `Asker`, and for whoever knows what is at stake. An
answer that was cut off is none; each is bounded in bytes and in time.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from select import POLLIN, poll
from ssl import SSLContext, SSLSocket
from typing import Any
from urllib.parse import urlsplit

from neuralake.client.answer import Answer
from neuralake.clock import Clock
from neuralake.errors import UsageError

__all__ = ["Connection"]


_CONNECT_S_MAX = 10.0
_ANSWER_S_MAX = 60.0
# An answer that comes slower than this, in the mean, is as none. Modems are quicker.
_ANSWER_BYTES_S_MIN = 4096
# Servers close a connection that is quiet for 5 s (ours: 10); a request that meets that is in
# doubt.
_IDLE_S_MAX = 4.0
_ANSWER_BYTES_MAX = 1024 * 1024


class Connection:
    """Talks to the server at `url`. Use it from one thread at a time.

    Redirects are not followed: a token goes to nobody else.

    Args:
        token: goes with each request, if there is one.
        tls: how the server of an `https` URL is checked; None: by the system's certificates.
        answer_s_max: how long an answer may take; a long one longer, see `_ANSWER_BYTES_S_MIN`.
        answer_bytes_max: what is longer is no answer of ours.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        token: str = "",
        tls: SSLContext | None = None,
        answer_s_max: float = _ANSWER_S_MAX,
        answer_bytes_max: int = _ANSWER_BYTES_MAX,
    ) -> None:
        parts, port = urlsplit(url), _port(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
            raise UsageError(f"{url!r} is not the URL of a server, such as http://127.0.0.1:8765.")
        if not (token.isascii() and token.isprintable()):
            raise UsageError("The token has characters that no token has: a line break, perhaps.")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._clock = clock
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._answer_s_max, self._answer_bytes_max = answer_s_max, answer_bytes_max
        self._connection = (
            http.client.HTTPSConnection(
                parts.hostname, port or None, timeout=_CONNECT_S_MAX, context=tls
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, port or None, timeout=_CONNECT_S_MAX)
        )
        self._used_s = 0.0
        self._is_aborted = False

    def open(self) -> None:
        """Make sure that there is a connection. Raises OSError: there is none; nothing is sent."""
        if self._clock.monotonic_s() - self._used_s > _IDLE_S_MAX or self._is_ended():
            self.close()
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except BaseException:
                self.close()  # Else a socket that TLS has taken over seems to be there.
                raise
            self._used_s = self._clock.monotonic_s()
        if self._is_aborted:
            raise ConnectionAbortedError("the client is being closed")

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        wait_s: float = 0.0,
    ) -> Answer:
        """Send a request and read its answer, which is whole.

        Args:
            wait_s: how long the server may take for it on purpose.

        Raises:
            OSError, http.client.HTTPException: there is no answer; the request may have come.
        """
        try:
            self.open()
            answer_s_max = self._answer_s_max + wait_s
            self._connection.sock.settimeout(answer_s_max)  # Of sending: for all of it.
            is_sent = False
            # A server that refuses a request by its head does not read on; its answer says why.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(
                    method,
                    self._prefix + path,
                    body=body,
                    headers={**self._headers, **(headers or {})},
                )
                is_sent = True
            answer = self._read(answer_s_max)
            if not is_sent:
                self.close()
        except BaseException:
            self.close()
            raise
        self._used_s = self._clock.monotonic_s()
        return answer

    def _read(self, answer_s_max: float) -> Answer:
        # Anything that makes a response will do; the library's type asks for a class.
        self._connection.response_class = partial(  # type: ignore[assignment]  # see above
            _Response, clock=self._clock, answer_s_max=answer_s_max
        )
        with closing(self._connection.getresponse()) as response:
            # The library takes a head that ends early for a whole one, and so what is no answer at
            # all for a refusal: ours always say where they end.
            if response.length is None and not response.chunked:
                raise http.client.HTTPException("an answer that does not say where it ends")
            body = response.read(self._answer_bytes_max + 1)
            if len(body) > self._answer_bytes_max:
                raise http.client.HTTPException(
                    f"an answer of more than {self._answer_bytes_max} bytes"
                )
            # With a limit `read` gives what there is, also of an answer that ended early.
            if response.length:
                raise http.client.IncompleteRead(body, response.length)
            headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body)

    def _is_ended(self) -> bool:
        """Whether the server has closed it: a request that meets that would be in doubt."""
        found = self._connection.sock
        if found is None or isinstance(found, SSLSocket):  # There, other things come unasked.
            return False
        waiting = poll()
        waiting.register(found, POLLIN)
        return bool(waiting.poll(0))

    def abort(self) -> None:
        """Break off a request that another thread waits for, or begins."""
        self._is_aborted = True
        found = self._connection.sock
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()


def _port(url: str) -> int | None:
    """The port; 0: the scheme's; None: it is none."""
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return None


class _Response(http.client.HTTPResponse):
    """An answer that comes within a time, however small its pieces are."""

    def __init__(
        self, sock: socket.socket, *args: Any, clock: Clock, answer_s_max: float, **options: Any
    ) -> None:
        super().__init__(sock, *args, **options)
        raw = sock.makefile("rb", buffering=0)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(raw, sock, clock, answer_s_max))

    def begin(self) -> None:
        try:
            super().begin()
        except BaseException:
            self.close()  # The library leaves that to the garbage collector.
            raise


class _Timed(io.RawIOBase):
    """What comes from `source`, until its time is over."""

    def __init__(
        self, raw: socket.SocketIO, source: socket.socket, clock: Clock, answer_s_max: float
    ) -> None:
        self._raw, self._socket, self._clock = raw, source, clock
        self._ends_s = clock.monotonic_s() + answer_s_max

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        self._socket.settimeout(left_s)
        count = self._raw.readinto(buffer)
        self._ends_s += (count or 0) / _ANSWER_BYTES_S_MIN
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
