"""All that a client still has to deliver, and the one thread that delivers it.

Callers add parts and wait; the thread takes one batch after the other, of the table whose turn it
is, and sends it over one connection. All they share is under one lock, which is not held while
anything is sent.
"""

from __future__ import annotations

import gzip
import http.client
import logging
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neuralake.client.answer import Answer, Verdict
from neuralake.client.asking import Backoff, path_of, untrusted
from neuralake.client.body import Part
from neuralake.client.connection import Connection
from neuralake.client.lane import Lane
from neuralake.client.options import Options
from neuralake.client.shelf import Batch
from neuralake.client.spool import Spool
from neuralake.clock import Clock
from neuralake.errors import (
    NeedsAttention,
    NeuralakeError,
    QueueFull,
    TooLarge,
    Unavailable,
    UsageError,
)

__all__ = ["Outbox"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    lane: Lane
    batch: Batch
    parts: list[Part]
    producer: str
    sequence: int
    queue: str


class Outbox:
    """Lanes, their bounds, and the thread. Use it from any thread of one process."""

    def __init__(
        self, connection: Connection, spool: Spool, options: Options, *, clock: Clock
    ) -> None:
        self._connection, self._spool, self._options = connection, spool, options
        self._clock = clock
        self._changed = threading.Condition()
        self._backoff = Backoff()
        self._retry_at_s = 0.0
        self._trouble: NeuralakeError | None = None
        self._ended: BaseException | None = None
        self._is_closing = False
        self._bytes = 0
        now_s = clock.monotonic_s()
        self._lanes = {
            table: Lane(table, spool.shelf(table), options, now_s=now_s) for table in spool.tables()
        }
        self._bytes = sum(lane.bytes for lane in self._lanes.values())
        self._thread = threading.Thread(target=self._run, name="neuralake-client", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._is_closing

    @property
    def rows_waiting(self) -> int:
        """Rows that are not acknowledged yet."""
        with self._changed:
            return sum(lane.rows for lane in self._lanes.values())

    def add(self, table: str, parts: Sequence[Part], *, block_s_max: float) -> None:
        """Take all of `parts`, in order, or raise and take none.

        Raises:
            QueueFull: there was no room within `block_s_max`.
            TooLarge: there never is.
            Unavailable: the spool's disk took only some of them, or none; `error.rows_taken`.
        """
        size = sum(len(part.content) for part in parts)
        if size > self._options.bytes_max:
            raise TooLarge(
                f"{size} bytes for {table!r} are more than the client may hold "
                f"({self._options.bytes_max}). Send them in parts.",
                limit=self._options.bytes_max,
                found=size,
            )
        with self._changed:
            self._await_room(table, size, block_s_max)
            lane = self._lane(table)
            taken = 0
            try:
                for part in parts:
                    lane.add(part, now_s=self._clock.monotonic_s())
                    self._bytes += len(part.content)
                    taken += part.rows
            except OSError as error:
                raise Unavailable(
                    f"The spool took {taken} of these rows for {table!r}: {error}. Send the others "
                    f"again.",
                    table=table,
                    rows_taken=taken,
                ) from error
            finally:
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was added before is acknowledged.

        Raises:
            NeuralakeError: something is not, and will not be without a person; or was refused.
            Unavailable: something is not within `timeout_s`; it is still being sent.
        """
        deadline_s = self._clock.monotonic_s() + timeout_s
        with self._changed:
            marks = [(lane, lane.flush()) for lane in self._lanes.values()]
            if isinstance(self._trouble, UsageError):  # It may be mended.
                self._trouble, self._retry_at_s = None, 0.0
            self._changed.notify_all()
            while waiting := [lane for lane, mark in marks if not lane.is_done_through(mark)]:
                self._check_running()
                for lane in waiting:
                    if lane.trouble is not None and _is_for_a_person(lane):
                        raise _again(lane.trouble, lane.rows)
                if isinstance(self._trouble, UsageError):
                    raise _again(self._trouble, sum(lane.rows for lane in waiting))
                left_s = deadline_s - self._clock.monotonic_s()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise self._late(waiting, timeout_s)
            self._raise_rejected()
            for lane, _ in marks:  # Of one that stopped behind its last row nothing is waiting.
                if lane.is_stopped and lane.trouble is not None:
                    raise _again(lane.trouble, lane.rows)

    def close(self) -> None:
        """End the thread and let go of the spool; what is not sent stays there."""
        with self._changed:
            if self._is_closing:
                return
            self._is_closing = True
            self._changed.notify_all()
        self._connection.abort()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        for lane in self._lanes.values():
            lane.close()
        self._spool.close()

    def _lane(self, table: str) -> Lane:
        lane = self._lanes.get(table)
        if lane is None:
            lane = Lane(
                table, self._spool.shelf(table), self._options, now_s=self._clock.monotonic_s()
            )
            self._lanes[table] = lane
        return lane

    def _await_room(self, table: str, size: int, block_s_max: float) -> None:
        deadline_s = self._clock.monotonic_s() + block_s_max
        while True:
            self._check_running()
            if self._bytes + size <= self._options.bytes_max:
                return
            lane = self._lanes.get(table)
            if lane is not None and lane.is_stopped and lane.trouble is not None:
                raise _again(lane.trouble, lane.rows)
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0 or not self._changed.wait(left_s):
                raise QueueFull(
                    f"The client holds {self._bytes} of {self._options.bytes_max} bytes, which are "
                    f"not delivered; {size} more for {table!r} do not fit. {self._why()}",
                    limit=self._options.bytes_max,
                    found=self._bytes + size,
                    retry_after_s=1.0,
                )

    def _why(self) -> str:
        troubles = [self._trouble, *(lane.trouble for lane in self._lanes.values())]
        return next((f"Last trouble: {found.message}" for found in troubles if found), "")

    def _check_running(self) -> None:
        if self._ended is not None:
            raise NeedsAttention(
                f"The client's thread has ended: {self._ended!r}. Open another client."
            ) from self._ended
        if self._is_closing:
            raise UsageError("The client is closed.")

    def _late(self, waiting: list[Lane], timeout_s: float) -> Unavailable:
        rows = sum(lane.rows for lane in waiting)
        return Unavailable(
            f"{_rows_are(rows)} not acknowledged after {timeout_s:g} s, and still being sent. "
            f"{self._why()}".rstrip(),
            rows=rows,
            tables=[lane.table for lane in waiting],
        )

    def _raise_rejected(self) -> None:
        rejected = [found for lane in self._lanes.values() for found in lane.rejected]
        if not rejected:
            return
        for lane in self._lanes.values():
            lane.rejected = []
        self._count()
        first, count = rejected[0].error, sum(found.count for found in rejected)
        raise type(first)(
            f"{count} rows were refused, all others are acknowledged. The first: {first.message}",
            **{**first.facts, "rejected": rejected},
        )

    def _run(self) -> None:
        try:
            while (task := self._take()) is not None:
                self._deliver(task)
        except BaseException as error:  # noqa: BLE001 the edge of a thread; callers are told
            with self._changed:
                self._ended = error
                self._changed.notify_all()
            _log.exception("the client's thread has ended")
        finally:
            self._connection.close()

    def _take(self) -> _Task | None:
        """The next batch to be sent, when it is time; None when the client is closed."""
        with self._changed:
            while not self._is_closing:
                now_s = self._clock.monotonic_s()
                lane = min(self._lanes.values(), key=Lane.due_s, default=None)
                due_s = max(lane.due_s(), self._retry_at_s) if lane else float("inf")
                if lane is None or due_s > now_s:
                    self._changed.wait(None if due_s == float("inf") else due_s - now_s)
                elif self._is_ready(lane) and (task := self._sealed(lane)):
                    # To the end of the row: a table that is never done must not hold up others.
                    self._lanes[lane.table] = self._lanes.pop(lane.table)
                    return task
            return None

    def _is_ready(self, lane: Lane) -> bool:
        return self._is_connected() and self._knows_queue(lane)

    def _is_connected(self) -> bool:
        """Connect, without the lock. A batch is sealed only when somebody is there to take it."""
        self._changed.release()
        try:
            self._connection.open()
            failed = None
        except OSError as error:
            failed = error
        finally:
            self._changed.acquire()
        if failed is None:
            return True
        self._is_unreachable(failed)
        return False

    def _is_unreachable(self, error: BaseException) -> None:
        self._trouble = _unreachable(self._connection.url, error)
        self._retry_at_s = self._clock.monotonic_s() + self._backoff.wait_s()
        self._changed.notify_all()

    def _knows_queue(self, lane: Lane) -> bool:
        """Ask for the server's queue, without the lock, before the first batch of a producer."""
        if lane.producer.queue:
            return True
        answer: Answer | None = None
        self._changed.release()
        try:
            answer = self._connection.exchange("GET", "/v1")
        except (OSError, http.client.HTTPException) as error:
            failed = error
        finally:
            self._changed.acquire()
        now_s = self._clock.monotonic_s()
        if answer is None:
            self._is_unreachable(failed)
            return False
        try:
            lane.learn(answer, now_s=now_s)
        except OSError as error:
            lane.rest(error, now_s=now_s)
        self._changed.notify_all()
        return bool(lane.producer.queue)

    def _sealed(self, lane: Lane) -> _Task | None:
        try:
            batch, parts = lane.take()
        except (FileNotFoundError, NeedsAttention) as error:
            lane.stop(_stopped(error))
            self._changed.notify_all()
            return None
        except OSError as error:
            lane.rest(error, now_s=self._clock.monotonic_s())
            self._changed.notify_all()
            return None
        producer = lane.producer
        sequence = producer.sequence_of(batch.ordinal)
        return _Task(lane, batch, parts, producer.id, sequence, producer.queue)

    def _deliver(self, task: _Task) -> None:
        form, lane = task.batch.form, task.lane
        body = form.head + b"".join(part.content for part in task.parts) + form.tail
        headers = {
            "Content-Type": form.media_type,
            "Neuralake-Producer": task.producer,
            "Neuralake-Sequence": str(task.sequence),
            "Neuralake-Queue": task.queue,
        }
        if self._options.compression is not None:
            body = _compressed(body, self._options.compression)
            headers["Content-Encoding"] = self._options.compression
        answer: Answer | None = None
        trouble: NeuralakeError | None = None
        try:
            database, _, table = lane.table.partition(".")
            answer = self._connection.exchange("POST", path_of(database, table), body, headers)
        except (OSError, http.client.HTTPException) as error:
            trouble = _unreachable(self._connection.url, error)
        with self._changed:
            if not self._is_closing:
                self._settle(task, answer, trouble)
            self._changed.notify_all()

    def _settle(self, task: _Task, answer: Answer | None, trouble: NeuralakeError | None) -> None:
        now_s = self._clock.monotonic_s()
        if answer is None:
            assert trouble is not None  # noqa: S101 one of the two is there; for mypy
            self._trouble = trouble
            self._retry_at_s = now_s + self._backoff.wait_s()
            task.lane.unanswered(trouble, retry_at_s=self._retry_at_s)
            return
        self._backoff.reset()
        self._trouble, self._retry_at_s = None, 0.0
        try:
            task.lane.answered(answer, task.parts, now_s=now_s)
        except OSError as error:
            task.lane.rest(error, now_s=now_s, is_stored=answer.verdict is Verdict.STORED)
        except Exception as error:  # noqa: BLE001 a fault of ours, perhaps; flush tells it
            task.lane.stop(_stopped(error))
        self._count()

    def _count(self) -> None:
        refused = sum(
            len(found.content) for lane in self._lanes.values() for found in lane.rejected
        )
        self._bytes = refused + sum(lane.bytes for lane in self._lanes.values())


def _compressed(body: bytes, how: Literal["gzip", "zstd"]) -> bytes:
    if how == "gzip":
        return gzip.compress(body, compresslevel=3, mtime=0)
    import pyarrow as pa

    return bytes(pa.compress(body, codec="zstd", asbytes=True))


def _is_for_a_person(lane: Lane) -> bool:
    """A wrong token, address or server is not cured by waiting, although the rows are kept."""
    return lane.is_stopped or isinstance(lane.trouble, UsageError | NeedsAttention)


def _again(error: NeuralakeError, rows: int) -> NeuralakeError:
    """`error`, to be raised by one of several callers."""
    return type(error)(
        f"{error.message} {_rows_are(rows)} not acknowledged.", **{**error.facts, "rows": rows}
    )


def _rows_are(rows: int) -> str:
    return "1 row is" if rows == 1 else f"{rows:,} rows are"


def _unreachable(url: str, error: BaseException) -> NeuralakeError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(url, error)
    return Unavailable(
        f"{url} does not answer: {type(error).__name__}: {error}. Is the server running "
        f"(neuralake up)?",
        url=url,
    )


def _stopped(error: Exception) -> NeuralakeError:
    if isinstance(error, NeedsAttention):
        return error
    return NeedsAttention(
        f"The client stopped: {type(error).__name__}: {error}. What is in its spool stays there."
    )
