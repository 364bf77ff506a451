"""Deliver envelopes to a server's HTTP API, again and again until it says that they are durable.

Every envelope goes with an idempotency key, so that sending it again after a lost answer is safe.
Waits grow from a tenth of a second to five, or are what the server asks for.
"""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from neuralake.clock import Clock
from neuralake.errors import (
    InvalidRows,
    NeuralakeError,
    TooLarge,
    Unavailable,
    UnknownName,
    UsageError,
)

__all__ = ["Delivered", "Sender"]

_TIMEOUT_S = 60.0
_WAIT_S_MIN, _WAIT_S_MAX = 0.1, 5.0
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_ERRORS: dict[int, type[NeuralakeError]] = {404: UnknownName, 413: TooLarge, 422: InvalidRows}
_ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, slots=True)
class Delivered:
    position: int
    repeated: bool
    """The server had it already."""
    dead_letters: int = 0
    """Rows that the server keeps as dead letters."""


class Sender:
    """Talks to one server over one kept connection. Use it from one thread.

    Args:
        give_up_s: how long one request is tried again before `Unavailable` is raised.
        stop: once set, no request is tried again.
        token: is sent with each request, if there is one.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        stop: threading.Event,
        give_up_s: float = 300.0,
        token: str = "",
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not the URL of a server, such as http://127.0.0.1:8765.")
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._clock, self._stop, self._give_up_s = clock, stop, give_up_s
        connect = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = connect(parts.hostname, parts.port, timeout=_TIMEOUT_S)

    def close(self) -> None:
        self._connection.close()

    def progress(self, database: str, table: str) -> dict[str, Any]:
        """What the server says about a table: columns, positions, and which queue it has."""
        return self._until_answered("GET", _path(database, table), b"", {})

    def send(self, database: str, table: str, payload: bytes, *, key: str) -> Delivered:
        """Deliver one Arrow IPC stream; when this returns, its rows are durable.

        Raises:
            UsageError: the server refuses it for good; the facts are the server's.
            Unavailable: the server did not take it within `give_up_s`, or `stop` was set; it may
                or may not have it, and sending it again with the same key is safe.
        """
        headers = {"Content-Type": _ARROW, "Idempotency-Key": key}
        answer = self._until_answered("POST", _path(database, table), payload, headers)
        return Delivered(answer["position"], answer["repeated"], answer.get("dead_letters", 0))

    def _until_answered(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> dict[str, Any]:
        deadline_s = self._clock.monotonic_s() + self._give_up_s
        wait_s = _WAIT_S_MIN
        while True:
            try:
                status, asked_s, answer = self._once(method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                trouble, asked_s = f"{type(error).__name__}: {error}", 0.0
            else:
                if 200 <= status < 300:
                    return answer
                if status not in _TRY_AGAIN:
                    raise _refusal(status, answer)
                trouble = f"status {status}: {answer.get('detail', '')}"
            pause_s = max(wait_s, min(asked_s, _WAIT_S_MAX))
            late = self._clock.monotonic_s() + pause_s > deadline_s
            if late or self._clock.wait_s(pause_s, self._stop):
                raise Unavailable(
                    f"{self._url} did not answer {method} {path}: {trouble}. Is the server "
                    f"running (neuralake up)?",
                    url=self._url,
                )
            wait_s = min(2 * wait_s, _WAIT_S_MAX)

    def _once(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, float, dict[str, Any]]:
        self._connection.request(method, path, body=body, headers=headers | self._headers)
        response = self._connection.getresponse()
        text = response.read()
        after = response.headers.get("Retry-After", "")
        try:
            answer = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError:
            answer = {"detail": text[:200].decode(errors="replace")}
        return response.status, float(after) if after.isdecimal() else 0.0, answer


def _path(database: str, table: str) -> str:
    return f"/v1/{quote(database, safe='')}/{quote(table, safe='')}"


def _refusal(status: int, answer: dict[str, Any]) -> NeuralakeError:
    standard = ("type", "title", "status", "detail")
    facts = {name: value for name, value in answer.items() if name not in standard}
    return _ERRORS.get(status, UsageError)(str(answer.get("detail", f"status {status}")), **facts)
