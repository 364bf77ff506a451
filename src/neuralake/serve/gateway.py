"""The door to SQL: queries wait their turn, run in processes of their own, and always end.

At most `processes` queries run at once and `waiting_max` wait; one more is refused at once. A query
ends by its answer, by its error, by the time limit (of its wait, and again of its run; the start of
a process is not counted), by the memory limit, or by `cancel`; in the last three its process is
killed, so nothing of it runs on. Processes are kept for the next query, and replaced when they are
not fit for one. All methods may be called from any thread; `open` and the parts block.
"""

from __future__ import annotations

import logging
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, NeuralakeError, QueryError, TimedOut, Unavailable
from neuralake.serve.describe import describe, function_rows
from neuralake.serve.messages import (
    Ask,
    AskPage,
    AskQueue,
    Began,
    Data,
    Failed,
    Format,
    Given,
    Head,
    Limits,
    Order,
    Run,
    Start,
    Tail,
    error_of,
)
from neuralake.serve.process import QueryProcess, remove_leftovers
from neuralake.serve.tails import look_at_queue, read_queue

__all__ = ["Gateway", "Query", "limits_of"]

# Memory can grow by 5 GB/s: what is overshot in a period is also bounded by the process itself.
_WATCH_PERIOD_S = 0.01
# 0.4 s on an idle machine.
_START_S_MAX = 30.0
_LOG = logging.getLogger(__name__)


def limits_of(catalog: Catalog) -> Limits:
    """The limits that the lake's settings state."""
    sql = catalog.settings.sql
    return Limits(
        rows_max=sql.rows_max,
        timeout_s=sql.timeout_s,
        memory_bytes_max=sql.memory_bytes_max,
        query_bytes_max=sql.query_bytes_max,
    )


@dataclass
class _Processes:
    """All processes of a gateway; apart from it, so that they can be ended after it is gone."""

    idle: list[QueryProcess] = field(default_factory=list)
    all: set[QueryProcess] = field(default_factory=set)

    def end(self) -> None:
        while self.all:
            self.all.pop().remove()
        self.idle.clear()


class Gateway:
    """SQL over the tables of `catalog`.

    Args:
        processes: queries that run at once; each may use `limits.memory_bytes_max`.
        waiting_max: queries that may wait for a process.
        limits: what a query may use; None takes the settings.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        processes: int = 2,
        waiting_max: int = 16,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.catalog = catalog
        self.clock = clock or SystemClock()
        self.processes, self.waiting_max = processes, waiting_max
        self._limits = limits
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0
        self._processes = _Processes()
        self._start: Start | None = None
        # Also at interpreter exit: no process and no folder stays behind.
        self._end = weakref.finalize(self, self._processes.end)

    @property
    def limits(self) -> Limits:
        if self._limits is None:
            self._limits = limits_of(self.catalog)
        return self._limits

    @property
    def running(self) -> int:
        """Queries that hold a process now."""
        return self._running

    @property
    def process_ids(self) -> list[int]:
        """Of all processes, running or idle."""
        return [process.id for process in list(self._processes.all)]

    def query(
        self,
        sql: str,
        form: Format,
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
        readable: Sequence[str] = ("*",),
        live: bool = False,
    ) -> Query:
        """Take a query; nothing runs before its `open`.

        `readable` are globs over `database.table`: to the query there are no other tables. `live`:
        stream tables have every acknowledged row, each once, also what is not committed yet.

        Raises:
            Unavailable: too many queries are waiting; this one was not taken.
        """
        with self._changed:
            if self._running + self._waiting >= self.processes + self.waiting_max:
                raise Unavailable(
                    f"{self._running} queries run and {self._waiting} wait; no more can be taken.",
                    retry_after_s=1.0,
                )
            self._waiting += 1
        timeout_s = min(timeout_s or self.limits.timeout_s, self.limits.timeout_s)
        run = Run(
            sql=sql,
            format=form,
            limit=limit,
            timeout_s=timeout_s,
            readable=tuple(readable),
            live=live,
        )
        return Query(self, run)

    def close(self) -> None:
        """End all processes; running queries fail."""
        self._end()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _await_turn(self, query: Query) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: query.reason is not None or self._running < self.processes
            )
            if query.reason is not None:
                raise query.reason
            self._waiting -= 1
            self._running += 1

    def _give_up_waiting(self) -> None:
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def _end_turn(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _take_process(self) -> QueryProcess:
        with self._changed:
            if self._processes.idle:
                return self._processes.idle.pop()
            if self._start is None:
                remove_leftovers()
                self._start = Start(
                    databases=describe(self.catalog),
                    limits=self.limits,
                    profiles=self.catalog.settings.profiles,
                )
            process = QueryProcess(self._start)
            self._processes.all.add(process)
            return process

    def _keep_process(self, process: QueryProcess) -> None:
        with self._changed:
            if self._end.alive:
                self._processes.idle.append(process)

    def _drop_process(self, process: QueryProcess) -> int:
        with self._changed:
            self._processes.all.discard(process)
        return process.remove()


class Query:
    """One query. Use it as a context manager, or `close` it: it holds a turn and a process."""

    def __init__(self, gateway: Gateway, run: Run) -> None:
        self.reason: NeuralakeError | None = None
        """Why it was cancelled, if it was."""
        self.tail: Tail | None = None
        """Set when all parts were read."""
        self._gateway, self._run = gateway, run
        self._lock = threading.Lock()
        self._process: QueryProcess | None = None
        self._has_turn = self._is_closed = self._is_settled = False
        self._over = threading.Event()
        self._ends_s = 0.0
        self._watch = threading.Thread(target=self._watch_limits, name="sql-limits", daemon=True)

    def open(self) -> Head:
        """Run it until the first part of its answer is ready.

        Raises:
            NeuralakeError: what the engine or a limit says; `TimedOut` at the time limit, the
                reason given to `cancel` if that came first.
        """
        self._set_end(self._run.timeout_s)
        self._watch.start()
        self._gateway._await_turn(self)
        self._has_turn = True
        # An idle process may have ended since (a person, the kernel); a new one that does not
        # come up will not do so next time.
        for _ in range(self._gateway.processes + 1):
            if self._begin():
                break
        else:
            raise NeedsAttention("The query process does not start; the server's log says why.")
        message = self._next()
        if not isinstance(message, Head):
            raise NeedsAttention(f"The query process answered {type(message).__name__}.")
        return message

    def parts(self) -> Iterator[bytes]:
        """The bytes of the answer, after `open`; raises as `open` does."""
        while not isinstance(message := self._next(), Tail):
            if isinstance(message, Data):
                yield message.part
        self.tail = message

    def cancel(self, reason: NeuralakeError) -> None:
        """End it now; whoever waits for it gets `reason`. No effect after it ended."""
        with self._lock:
            if self.reason is not None or self._is_settled:
                return
            self.reason = reason
            if self._process is not None:
                self._process.kill()
        self._gateway._wake()

    def close(self) -> None:
        """Give back its turn and its process; ends it if it still runs. May block for a second."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            process, self._process = self._process, None
        self._over.set()
        if not self._has_turn:
            self._gateway._give_up_waiting()
            return
        if process is not None:
            if self._is_settled and process.settle():
                self._gateway._keep_process(process)
            else:
                self._gateway._drop_process(process)
        self._gateway._end_turn()

    def __enter__(self) -> Query:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _set_end(self, seconds: float) -> None:
        self._ends_s = self._gateway.clock.monotonic_s() + seconds

    def _watch_limits(self) -> None:
        """End the query at its time limit, or when its process holds too much memory."""
        timeout_s, limits = self._run.timeout_s, self._gateway.limits
        clock = self._gateway.clock
        while not clock.wait_s(_WATCH_PERIOD_S, self._over):
            if clock.monotonic_s() >= self._ends_s:
                self.cancel(
                    TimedOut(
                        f"The query did not end within {timeout_s:g} s and was stopped.",
                        timeout_s=timeout_s,
                    )
                )
                return
            process = self._process
            if process is not None and process.memory_bytes() > limits.memory_bytes_max:
                self.cancel(
                    QueryError(
                        f"The query needs more than {limits.memory_bytes_max} bytes of memory and "
                        f"was stopped. Ask for fewer rows or groups.",
                        reason="memory",
                        limit=limits.memory_bytes_max,
                    )
                )
                return

    def _begin(self) -> bool:
        """Whether a process took the query; False if it turned out to have ended before."""
        process = self._gateway._take_process()
        with self._lock:
            self._process = process
            if self.reason is not None:
                raise self.reason
        with suppress(OSError):
            self._set_end(_START_S_MAX)
            if process.settle():
                self._set_end(self._run.timeout_s)
                process.send(self._run)
                if isinstance(process.receive(), Began):
                    return True
        with self._lock:
            if self.reason is not None:
                raise self.reason
            self._process = None
        self._gateway._drop_process(process)
        return False

    def _next(self) -> Head | Data | Tail:
        process = self._process
        assert process is not None  # noqa: S101 `open` set it; for mypy
        while True:
            message = process.receive()
            if isinstance(message, Ask | AskQueue | AskPage):
                try:
                    process.send(self._given(message))
                except OSError:
                    raise self._ended() from None
            elif isinstance(message, Failed):
                self._settle()
                raise error_of(message)
            elif isinstance(message, Head | Data | Tail):
                if isinstance(message, Tail):
                    self._settle()
                return message
            else:
                raise self._ended()

    def _settle(self) -> None:
        """From here on the process belongs to the next query: no cancel may kill it."""
        with self._lock:
            if self.reason is not None:
                raise self.reason
            self._is_settled = True

    def _ended(self) -> NeuralakeError:
        with self._lock:
            if self.reason is not None:
                return self.reason
            process, self._process = self._process, None
        if process is None:
            return NeedsAttention("The query was closed while it was read.")
        code = self._gateway._drop_process(process)
        if -code == signal.SIGALRM:
            return TimedOut("The query did not end in time.", timeout_s=self._run.timeout_s)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return QueryError(
            f"The query ended the process that ran it ({name}): it is nested too deep, or needs "
            f"more than {self._gateway.limits.memory_bytes_max} bytes of memory.",
            reason="crash",
            ended=name,
        )

    def _given(self, ask: Ask | AskQueue | AskPage) -> Order:
        """What the process asks for, or why it cannot have it."""
        catalog, name = self._gateway.catalog, f"{ask.database}.{ask.table}"
        try:
            if isinstance(ask, AskQueue):
                return look_at_queue(catalog, ask)
            if isinstance(ask, AskPage):
                return read_queue(catalog, ask)
            return Given(rows=function_rows(catalog, ask.database, ask.table))
        except NeuralakeError as error:
            return Failed(error=type(error).__name__, message=error.message, facts=error.facts)
        except Exception as error:  # noqa: BLE001 the owner's code; this query fails, not the server
            _LOG.exception("the rows of %s could not be given to a query", name)
            what = "is a function, and it" if isinstance(ask, Ask) else "is live, and its queue"
            return Failed(
                error=NeedsAttention.__name__,
                message=f"Table {name} {what} failed with {type(error).__name__}. The server's "
                f"log has the rest.",
                facts={"table": name},
            )
