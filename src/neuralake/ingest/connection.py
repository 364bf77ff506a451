"""One HTTP connection, bounded in what it may send and in how long it may take.

uvicorn alone takes headers without end, and waits for ever for a request that does not come and
for a client that does not read. Here a connection is closed when its client is the slow one:

- the head of a request must come within `head_s` and `head_bytes_max`;
- a body must come with at least `body_bytes_per_s`, looked at every `body_s`;
- a client must read what waits for it (some 64 KiB) within `drain_s`.

A request that the server itself is slow to answer is not touched, and time in which the server does
not read (a commit takes long, other requests wait) is nobody's: the timers stand still.

When there are as many connections as may be, a new one takes the place of the one that is furthest
behind: which has sent no request for longest, too little of a body, or does not read. So however
many are held open by somebody who sends a byte now and then, others are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedConnection"]

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)
# Chunks of one byte have five bytes around each.
_OVERHEAD_FACTOR = 8


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with the bounds above."""

    head_bytes_max: ClassVar[int] = 64 * 1024
    head_s: ClassVar[float] = 15.0
    body_s: ClassVar[float] = 20.0
    body_bytes_per_s: ClassVar[int] = 16 * 1024
    drain_s: ClassVar[float] = 30.0
    pipelined_max: ClassVar[int] = 512
    """Requests that may wait for the answer to the one before."""
    spare_s: ClassVar[float] = 1.0
    """Who is less behind than this is not closed for others."""

    # What came since the last whole request, and how much of it was body.
    _came = _body = 0
    _body_seen = 0
    # By when a client of the least speed would have sent what came of this request.
    _came_by_s = 0.0
    # What is to be done if a request does not come, and in how many seconds of reading.
    _request_due: tuple[Callable[[], None], float] | None = None
    _request_timer: asyncio.TimerHandle | None = None
    _paused_s = 0.0
    _drain_timer: asyncio.TimerHandle | None = None

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # uvicorn narrows it, too
    ) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        # uvicorn refuses requests at its limit, so we stay below it. Now, and not when a request
        # comes: each idle one holds a file descriptor.
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            if (slowest := self._slowest()) is None:
                transport.write(_BUSY)
                transport.close()
                return
            slowest.transport.abort()
        self._await_request()

    @property
    def _is_waited_for(self) -> bool:
        """Whether it is the client's turn, to send or to read."""
        return self._request_timer is not None or self._drain_timer is not None

    def _slowest(self) -> BoundedConnection | None:
        """Who is furthest behind, if it is far enough."""
        waited_for = [
            other
            for other in self.connections
            if isinstance(other, BoundedConnection)
            and other._is_waited_for
            and not other.transport.is_closing()
        ]
        slowest = min(waited_for, key=lambda other: other._came_by_s, default=None)
        if slowest is None or self.loop.time() - slowest._came_by_s < self.spare_s:
            return None
        return slowest

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_request_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        super().data_received(data)
        overhead = self._came - self._body
        if overhead > self.head_bytes_max + _OVERHEAD_FACTOR * self._body:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if len(self.pipeline) > self.pipelined_max:
            self.transport.abort()
        self._body_seen = self._body
        self._came_by_s = self.loop.time()
        self._start_request_timer(self.body_s, self._look_at_body)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if self._body:  # A trailer: nobody reads it, and there may be many.
            self.headers.pop()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        bought_s = self._came_by_s + len(body) / self.body_bytes_per_s
        self._came_by_s = min(bought_s, self.loop.time())
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_request_timer()
        self._came = self._body = 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._await_request()  # It was answered before its body was there.

    def on_response_complete(self) -> None:
        is_next_known = bool(self.pipeline)
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()  # Others wait: no more may come.
        if not is_next_known:
            self._await_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._drain_timer is None:
            self._came_by_s = self.loop.time()
            self._drain_timer = self.loop.call_later(self.drain_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        super().resume_writing()

    def _await_request(self) -> None:
        self._came_by_s = self.loop.time()
        self._start_request_timer(self.head_s, self.transport.close)

    def _look_at_body(self) -> None:
        came = self._body - self._body_seen
        if came < self.body_s * self.body_bytes_per_s:
            self.transport.close()
            return
        self._body_seen = self._body
        self._start_request_timer(self.body_s, self._look_at_body)

    def reading_paused(self) -> None:
        """The server reads no more for now."""
        self._paused_s = self.loop.time()
        if self._request_timer is not None and self._request_due is not None:
            left_s = max(0.0, self._request_timer.when() - self._paused_s)
            self._request_timer.cancel()
            self._request_timer = None
            self._request_due = self._request_due[0], left_s

    def reading_resumed(self) -> None:
        """The server reads again."""
        if self._request_due is not None:
            now_s = self.loop.time()
            self._came_by_s = min(now_s, self._came_by_s + now_s - self._paused_s)
            then, left_s = self._request_due
            self._start_request_timer(left_s, then)

    def _start_request_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_request_timer()
        if self.transport.is_closing():
            return
        self._request_due = then, seconds
        if not self.flow.read_paused:
            self._request_timer = self.loop.call_later(seconds, then)

    def _stop_request_timer(self) -> None:
        self._request_due = None
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None


class _Flow(FlowControl):
    """uvicorn's, which tells the connection when reading stops and when it goes on."""

    def __init__(self, transport: asyncio.Transport, connection: BoundedConnection) -> None:
        super().__init__(transport)
        self._connection = connection

    def pause_reading(self) -> None:
        if not self.read_paused:
            super().pause_reading()
            self._connection.reading_paused()

    def resume_reading(self) -> None:
        if self.read_paused:
            super().resume_reading()
            self._connection.reading_resumed()
