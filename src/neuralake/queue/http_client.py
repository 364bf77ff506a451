"""Ask a neuralake server over HTTP: connections that are kept, questions that are repeated.

Only GET, which may always be sent again: after a broken connection, an answer that ends early,
429 and what a proxy says of a server that restarts. Redirects are not followed: a token goes to
nobody else.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from neuralake.clock import Clock
from neuralake.errors import (
    Forbidden,
    NeedsAttention,
    NeuralakeError,
    SettingsError,
    Trimmed,
    Unauthorized,
    Unavailable,
    UnknownName,
    UsageError,
)
from neuralake.storage.retry import Patience

__all__ = ["Answer", "HttpClient"]

T = TypeVar("T")

_CONNECT_S_MAX = 10.0
_ANSWER_S_MAX = 30.0
_GIVE_UP_S = 15.0
_WAIT_S_MAX = 3.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_KEPT_MAX = 8
# Far above the largest envelope; what is larger is no answer of ours.
_BYTES_MAX = 512 * 1024 * 1024
_NO_QUERY: Mapping[str, str | int | float] = {}
_ERRORS: dict[int, type[NeuralakeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: UnknownName,
    410: Trimmed,
    500: NeedsAttention,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer."""

    headers: Mapping[str, str]
    body: bytes

    def json(self, kind: type[T]) -> T:
        """The value that the body is.

        Raises:
            NeedsAttention: it is none: something else answered, or another release.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError as error:
            raise NeedsAttention(
                f"The answer is not that of a neuralake server of this release: {error}."
            ) from error


class HttpClient:
    """Talks to the server at `url`. For any number of threads.

    Args:
        ca_file: certificates (PEM) that the server's is checked with; None: the system's.
        token: goes with each question, if there is one.
        give_up_s: how long a question is repeated before `Unavailable` is raised.

    Raises:
        SettingsError: the certificates cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        token: str = "",
        ca_file: Path | None = None,
        give_up_s: float = _GIVE_UP_S,
    ) -> None:
        parts = urlsplit(url)
        self.url, self._host, self._port = url.rstrip("/"), parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/")
        self._tls = _tls(ca_file) if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._clock, self._give_up_s = clock, give_up_s
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def get(
        self, path: str, query: Mapping[str, str | int | float] = _NO_QUERY, *, wait_s: float = 0.0
    ) -> Answer:
        """The answer to GET `path`; `wait_s`: how long the server may take for it on purpose.

        Raises:
            Unavailable: there was none within `give_up_s`.
            Unauthorized, Forbidden, UnknownName, Trimmed, UsageError: the server refused, with
                the facts that it told.
            NeedsAttention: the server failed.
            UsageError: this client is closed.
        """
        target = f"{self._prefix}{path}{'?' if query else ''}{urlencode(query)}"
        trouble = ""
        for _ in Patience(self._give_up_s, longest_s=_WAIT_S_MAX, clock=self._clock).tries():
            if self._closed.is_set():
                raise UsageError("The queue is closed.")
            try:
                status, headers, body = self._once(target, _ANSWER_S_MAX + wait_s)
            except ssl.SSLCertVerificationError as error:
                raise UsageError(
                    f"{self.url} has no certificate that is trusted here: {error.verify_message}. "
                    f"Set queue.ca_file to the certificates that it is to be checked with.",
                    name="queue.ca_file",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
                continue
            if 200 <= status < 300:
                return Answer(headers, body)
            if status not in _TRY_AGAIN:
                raise _refusal(self.url, status, body)
            trouble = f"status {status}, {_told(body).get('detail', '')}"
            after = headers.get("retry-after", "")
            if after.isdecimal() and len(after) < 5:
                self._clock.wait_s(min(float(after), _WAIT_S_MAX), self._closed)
        raise Unavailable(
            f"{self.url} did not answer GET {path}: {trouble}. Is the platform running there "
            f"(neuralake up), and can it be reached from here?",
            url=self.url,
        )

    def close(self) -> None:
        """Questions fail from now on, also those that wait to be repeated."""
        self._closed.set()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _once(self, target: str, answer_s_max: float) -> tuple[int, dict[str, str], bytes]:
        connection, is_kept = self._take()
        try:
            found = self._ask(connection, target, answer_s_max)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            connection.close()
            if not is_kept:
                raise
            # The server closes what is idle for a while: that is no trouble of its.
            connection = self._new()
            try:
                found = self._ask(connection, target, answer_s_max)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < _KEPT_MAX and not self._closed.is_set():
                self._idle.append(connection)
                return found
        connection.close()
        return found

    def _ask(
        self, connection: http.client.HTTPConnection, target: str, answer_s_max: float
    ) -> tuple[int, dict[str, str], bytes]:
        if connection.sock is None:
            connection.timeout = _CONNECT_S_MAX
            connection.connect()
        connection.sock.settimeout(answer_s_max)
        connection.request("GET", target, headers=self._headers)
        response = connection.getresponse()
        if response.length is None and not response.chunked:
            # The library takes a head that ends early for a whole one.
            raise http.client.HTTPException("an answer that does not say where it ends")
        body = response.read(_BYTES_MAX + 1)
        if len(body) > _BYTES_MAX:
            raise http.client.HTTPException(f"an answer of more than {_BYTES_MAX} bytes")
        # With a limit `read` gives what there is, also of an answer that ended early.
        if response.length:
            raise http.client.IncompleteRead(body, response.length)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, body

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        return self._new(), False

    def _new(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"queue.ca_file ({ca_file}) has no certificates: {error}.", name="queue.ca_file"
        ) from error


def _told(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"detail": body[:200].decode(errors="replace")}


def _refusal(url: str, status: int, body: bytes) -> NeuralakeError:
    told = _told(body)
    standard = ("type", "title", "status", "detail")
    facts = {name: value for name, value in told.items() if name not in standard}
    kind = _ERRORS.get(status, UsageError)
    return kind(f"{url} answered {status}: {told.get('detail', '')}", **facts)
