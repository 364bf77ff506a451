"""One kept HTTP connection to a server, and what its answers mean for whoever sends rows.

Neither tries again nor waits: that is for `Backoff` and whoever knows what is at stake.
"""

from __future__ import annotations

import http.client
import random
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from select import POLLIN, poll
from socket import SHUT_RDWR
from ssl import SSLSocket
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from neuralake.clock import Clock
from neuralake.errors import (
    Conflict,
    Forbidden,
    InvalidRows,
    KeyReused,
    NeuralakeError,
    OutOfOrder,
    QueueFull,
    SchemaMismatch,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownName,
    UnknownProducer,
    UnsupportedMedia,
    UsageError,
)

__all__ = ["Answer", "Backoff", "Connection", "Verdict", "path_of"]

_CONNECT_S_MAX = 10.0
_TIMEOUT_S = 60.0
# Servers close a connection that is quiet for 5 s; a request that meets that is in doubt.
_IDLE_S_MAX = 4.0
_ANSWER_BYTES_MAX = 1024 * 1024
_STANDARD = ("type", "title", "status", "detail")
_KINDS: dict[str, type[NeuralakeError]] = {
    "key-reused": KeyReused,
    "out-of-order": OutOfOrder,
    "schema-mismatch": SchemaMismatch,
    "unknown-producer": UnknownProducer,
}
_STATUSES: dict[int, type[NeuralakeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: UnknownName,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InvalidRows,
    429: QueueFull,
}


class Verdict(Enum):
    """What a sender does next."""

    STORED = "stored"
    REFUSED = "refused"
    """These rows fail again; nothing is stored."""
    CONFLICT = "conflict"
    """The rows are fine, but their number or key is not; nothing is stored."""
    LATER = "later"
    """Nothing is stored now; a moment, or a person, changes that."""
    UNKNOWN = "unknown"
    """Whether they are stored is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer."""

    status: int
    members: dict[str, Any]
    """Its JSON; of something that is none, its beginning as `detail`."""
    retry_after_s: float = 0.0
    queue: str = ""
    """Which queue the server counts in; empty if it does not say so."""

    @property
    def verdict(self) -> Verdict:
        if 200 <= self.status < 300:
            # Whatever stands between may answer 200 with a page of its own.
            return Verdict.STORED if "position" in self.members else Verdict.UNKNOWN
        if self.status in (400, 413, 422):
            return Verdict.CONFLICT if self._kind == "key-reused" else Verdict.REFUSED
        if self.status == 409:
            return Verdict.CONFLICT
        return Verdict.LATER if self.status < 500 or self.status == 503 else Verdict.UNKNOWN

    def error(self) -> NeuralakeError:
        """What a server of ours raised to answer so; its facts, too."""
        facts = {name: value for name, value in self.members.items() if name not in _STANDARD}
        is_ours = 400 <= self.status < 500
        default: type[NeuralakeError] = UsageError if is_ours else Unavailable
        kind = _KINDS.get(self._kind) or _STATUSES.get(self.status, default)
        return kind(str(self.members.get("detail", f"status {self.status}")), **facts)

    @property
    def _kind(self) -> str:
        return str(self.members.get("type", "")).rpartition(":")[2]


class Connection:
    """Talks to the server at `url`. Use it from one thread at a time."""

    def __init__(self, url: str, *, clock: Clock, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not the URL of a server, such as http://127.0.0.1:8765.")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._clock = clock
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        connect = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = connect(parts.hostname, parts.port, timeout=_CONNECT_S_MAX)
        self._used_s = 0.0

    def open(self) -> None:
        """Make sure that there is a connection. Raises OSError: there is none; nothing is sent."""
        if self._clock.monotonic_s() - self._used_s > _IDLE_S_MAX or self._is_ended():
            self.close()
        if self._connection.sock is None:
            self._connect()

    def exchange(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and read its answer.

        Raises:
            OSError, http.client.HTTPException: there is no answer; the request may have come.
        """
        try:
            self.open()
            # A server that refuses a request by its head does not read on; its answer says why.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(
                    method, self._prefix + path, body=body, headers=self._headers | (headers or {})
                )
            response = self._connection.getresponse()
            text = response.read(_ANSWER_BYTES_MAX)
            if not response.isclosed():  # It says more than any answer of ours.
                self.close()
        except BaseException:
            self.close()
            raise
        self._used_s = self._clock.monotonic_s()
        after = response.headers.get("Retry-After", "")
        return Answer(
            response.status,
            _members(text),
            retry_after_s=float(after) if after.isdecimal() else 0.0,
            queue=response.headers.get("Neuralake-Queue", ""),
        )

    def _is_ended(self) -> bool:
        """Whether the server has closed it: a request that meets that would be in doubt."""
        socket = self._connection.sock
        if socket is None or isinstance(socket, SSLSocket):  # There, other things come unasked.
            return False
        waiting = poll()
        waiting.register(socket, POLLIN)
        return bool(waiting.poll(0))

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.sock.settimeout(_TIMEOUT_S)
        self._used_s = self._clock.monotonic_s()

    def abort(self) -> None:
        """Break off a request that another thread waits for."""
        socket = self._connection.sock
        if socket is not None:
            with suppress(OSError):
                socket.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next try: random between nothing and a bound that doubles.

    All of it is random, so that senders that a server's restart has thrown out together do not come
    back together. What the server asks for comes on top, up to `asked_s_max`.
    """

    s_min: float = 0.1
    s_max: float = 10.0
    asked_s_max: float = 60.0
    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def wait_s(self, asked_s: float = 0.0) -> float:
        """Count a failure; the time until the next try."""
        bound_s = min(self.s_max, self.s_min * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return min(asked_s, self.asked_s_max) + self.random.uniform(0.0, bound_s)

    def reset(self) -> None:
        """Something worked."""
        self.failures = 0


def path_of(database: str, table: str) -> str:
    """Where the rows of a table go."""
    return f"/v1/{quote(database, safe='')}/{quote(table, safe='')}"


def _members(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"detail": text[:200].decode(errors="replace")}
