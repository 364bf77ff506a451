"""Deliver envelopes to a server's HTTP API, again and again until it says that they are durable.

Every envelope goes with an idempotency key made of its content, so that sending it again after a
lost answer is safe, also by another run. Connection, answers and waits are those of the client.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from neuralake.client.answer import Answer, Verdict
from neuralake.client.asking import Asker, path_of
from neuralake.client.connection import Connection
from neuralake.clock import Clock

__all__ = ["Delivered", "Sender"]

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
        self._asker = Asker(
            lambda: Connection(url, clock=clock, token=token),
            clock=clock,
            give_up_s=give_up_s,
            is_again=_is_again,
            stop=stop,
        )

    def close(self) -> None:
        self._asker.close()

    def progress(self, database: str, table: str) -> dict[str, Any]:
        """What the server says about a table: columns, positions, and which queue it has."""
        return self._until_answered("GET", path_of(database, table), b"", {})

    def send(self, database: str, table: str, payload: bytes, *, key: str) -> Delivered:
        """Deliver one Arrow IPC stream; when this returns, its rows are durable.

        Raises:
            UsageError: the server refuses it for good; the facts are the server's.
            Unavailable: the server did not take it within `give_up_s`, or `stop` was set; it may
                or may not have it, and sending it again with the same key is safe.
        """
        headers = {"Content-Type": _ARROW, "Idempotency-Key": key}
        answer = self._until_answered("POST", path_of(database, table), payload, headers)
        return Delivered(answer["position"], answer["repeated"], answer.get("dead_letters", 0))

    def _until_answered(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> dict[str, Any]:
        answer = self._asker.ask(method, path, body, headers)
        if answer.verdict is not Verdict.STORED:
            raise answer.error()
        return answer.members


def _is_again(answer: Answer) -> bool:
    if answer.verdict is Verdict.STORED:
        return False
    return not 400 <= answer.status < 500 or answer.status == 429
