"""A connection whose small requests take the fast path (`fast_path.py`), if they may.

uvicorn begins an application's task when the head of a request is there. Here that is put off until
its body is, too; then the fast path takes it, or the task begins after all. All else is uvicorn's:
parsing, the order of pipelined requests, keep-alive and the orderly end.

That needs names of uvicorn which are not public, and which other releases of it may lack: whether
they are there is asked at the start. Without them all requests go the usual way.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http import httptools_impl

from neuralake.ingest.connection import BoundedConnection
from neuralake.ingest.fast_path import FAST_PATH, FastPath, Head

if TYPE_CHECKING:  # Another uvicorn may have no such name.
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["FastConnection", "connection_kind"]

_STARTS = "_start_asgi_task"
_CYCLE_ARGUMENTS = (
    "scope",
    "transport",
    "flow",
    "logger",
    "access_logger",
    "access_log",
    "default_headers",
    "message_event",
    "expect_100_continue",
    "keep_alive",
    "on_response",
)
_CYCLE_FIELDS = (
    "scope",
    "transport",
    "default_headers",
    "keep_alive",
    "body",
    "more_body",
    "disconnected",
    "response_started",
    "response_complete",
    "on_response",
)
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_log = logging.getLogger(__name__)


def connection_kind() -> type[BoundedConnection]:
    """What a server's connections are; if that is without the fast path, the log says why."""
    missing = _missing()
    if missing is None:
        return FastConnection
    _log.warning(
        "uvicorn %s has no %s as this release of neuralake knows it: single small events cost the "
        "server several times the work. All else is the same. Install uvicorn 0.54, or upgrade "
        "neuralake.",
        uvicorn.__version__,
        missing,
    )
    return BoundedConnection


def _missing() -> str | None:
    """The first of uvicorn's names that is not there, or not what we know."""
    for name, is_known in _checks():
        with suppress(Exception):  # Wrapped or compiled, say: any doubt means the usual way.
            if is_known():
                continue
        return name
    return None


def _checks() -> Iterator[tuple[str, Callable[[], bool]]]:
    """Each name, and what tells whether it is as we know it; or raises, if it is not."""
    yield f"HttpToolsProtocol.{_STARTS}", _is_start_known
    for name in ("on_headers_complete", "on_response_complete"):
        yield f"call of {_STARTS} in HttpToolsProtocol.{name}", partial(_calls_start, name)
    yield "RequestResponseCycle", lambda: bool(_cycle())
    for field in _CYCLE_FIELDS:
        yield f"RequestResponseCycle.{field}", partial(_has_cycle, field)


def _is_start_known() -> bool:
    start = getattr(httptools_impl.HttpToolsProtocol, _STARTS)
    return list(inspect.signature(start).parameters) == ["self", "cycle", "app"]


def _calls_start(name: str) -> bool:
    return _STARTS in getattr(httptools_impl.HttpToolsProtocol, name).__code__.co_names


def _has_cycle(field: str) -> bool:
    return hasattr(_cycle(), field)


def _cycle() -> RequestResponseCycle:
    """One with nothing in it: its fields are what is looked at."""
    arguments: dict[str, Any] = dict.fromkeys(_CYCLE_ARGUMENTS)
    return httptools_impl.RequestResponseCycle(**arguments)


class FastConnection(BoundedConnection):
    """A bounded connection with the fast path that the application's lifespan state holds."""

    # A request of the fast path whose body is not there yet.
    _awaited: tuple[RequestResponseCycle, Head] | None = None
    app_state: Mapping[str, Any]  # type: ignore[assignment]  # uvicorn: a dict; only read

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        head = self._head(cycle) if app is self.app else None
        if head is None:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._awaited = cycle, head
        else:  # Pipelined: it came while the one before was answered.
            self._take(cycle, head)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._awaited is not None and not self._awaited[0].more_body:
            (cycle, head), self._awaited = self._awaited, None
            self._take(cycle, head)

    def _head(self, cycle: RequestResponseCycle) -> Head | None:
        fast_path: FastPath | None = self.app_state.get(FAST_PATH)
        if fast_path is None or not cycle.keep_alive or self.flow.write_paused:
            return None
        return fast_path.head(cast("Scope", cycle.scope))

    def _take(self, cycle: RequestResponseCycle, head: Head) -> None:
        fast_path: FastPath = self.app_state[FAST_PATH]
        reply = _Reply(self, cycle)
        if not fast_path.take(head, cast("Scope", cycle.scope), bytes(cycle.body), reply):
            reply.decline()

    def start_usual(self, cycle: RequestResponseCycle) -> None:
        """Let the application answer."""
        super()._start_asgi_task(cycle, self.app)


class _Reply:
    """The answer to one request: what uvicorn's `RequestResponseCycle.send` does, in one write."""

    __slots__ = ("_connection", "_cycle", "_is_ended")

    def __init__(self, connection: FastConnection, cycle: RequestResponseCycle) -> None:
        self._connection, self._cycle, self._is_ended = connection, cycle, False

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        cycle = self._cycle
        if self._is_ended:
            return
        self._is_ended = cycle.response_started = cycle.response_complete = True
        # uvicorn marks only the newest request of a connection that was lost.
        if cycle.disconnected or cycle.transport.is_closing():
            return
        defaults = b"".join([b"%s: %s\r\n" % header for header in cycle.default_headers])
        closing = b"" if cycle.keep_alive else b"connection: close\r\n"
        cycle.transport.write(
            b"".join((_STATUS_LINES[status], defaults, headers, closing, b"\r\n", body))
        )
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def decline(self) -> bool:
        if self._is_ended or self._cycle.disconnected or self._cycle.transport.is_closing():
            return False
        self._is_ended = True
        self._connection.start_usual(self._cycle)
        return True
