"""Ask a server until it answers: over kept connections, with waits that are random and grow.

Only what may be sent again: GET, and requests that the server recognises. After a broken
connection, an answer that was cut off, 429 and what a proxy says of a server that restarts.
"""

from __future__ import annotations

import http.client
import random
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from neuralake.client.answer import Answer
from neuralake.client.connection import Connection
from neuralake.clock import Clock
from neuralake.errors import Unavailable, UsageError

__all__ = ["Asker", "Backoff", "path_of", "untrusted"]

_GIVE_UP_S = 15.0
_WAIT_S_MAX = 3.0
_KEPT_MAX = 8
_AGAIN = frozenset({429, 502, 503, 504})


def _is_passing(answer: Answer) -> bool:
    return answer.status in _AGAIN


class Asker:
    """Asks a server. For any number of threads.

    Args:
        connect: makes a connection to it.
        give_up_s: how long a request is repeated before `Unavailable` is raised.
        is_again: whether an answer is one to ask again after.
        stop: once set, nothing is asked again.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        clock: Clock,
        give_up_s: float = _GIVE_UP_S,
        is_again: Callable[[Answer], bool] = _is_passing,
        stop: threading.Event | None = None,
    ) -> None:
        self._connect, self._clock = connect, clock
        self._give_up_s, self._is_again = give_up_s, is_again
        self._stop = stop or threading.Event()
        self._is_closed = False
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        wait_s: float = 0.0,
    ) -> Answer:
        """The answer, whatever it says but "later"; `wait_s`: as of `Connection.exchange`.

        Raises:
            Unavailable: there was none within `give_up_s`, or before `stop`; a request that is no
                question may have come.
            UsageError: the server's certificate is not trusted, or this is closed.
        """
        deadline_s = self._clock.monotonic_s() + self._give_up_s
        backoff = Backoff(s_max=_WAIT_S_MAX, asked_s_max=_WAIT_S_MAX)
        while True:
            asked_s = 0.0
            connection = self._take()
            try:
                answer = connection.exchange(method, path, body, headers, wait_s=wait_s)
            except ssl.SSLCertVerificationError as error:
                raise untrusted(connection.url, error) from error
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                self._give_back(connection)
                if not self._is_again(answer):
                    return answer
                trouble = f"status {answer.status}: {answer.members.get('detail', '')}"
                asked_s = answer.retry_after_s
            pause_s = backoff.wait_s(asked_s)
            is_late = self._clock.monotonic_s() + pause_s > deadline_s
            if is_late or self._clock.wait_s(pause_s, self._stop):
                self._check_open()
                raise Unavailable(
                    f"{connection.url} did not answer {method} {path}: {trouble}. Is the platform "
                    f"running there (neuralake up), and can it be reached from here?",
                    url=connection.url,
                )

    def close(self) -> None:
        """Requests fail from now on, also those that wait to be repeated."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        self._stop.set()
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        with self._lock:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT_MAX and not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("The connection to the server is closed.")


def untrusted(url: str, error: ssl.SSLCertVerificationError) -> UsageError:
    """The server may be another one: waiting does not help."""
    return UsageError(
        f"{url} has no certificate that is trusted here: {error.verify_message}. Name the file of "
        f"those that it is to be checked with: in the setting queue.ca_file for a queue, in the "
        f"environment's SSL_CERT_FILE for what sends rows.",
        name="queue.ca_file",
    )


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
