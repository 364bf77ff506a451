"""A query process: plans and runs one query at a time, and may die of it.

Some SQL texts end the process that plans or runs them (a deep union overflows the stack, `lpad`
allocates two gigabytes at once, a nested loop does not stop when it is cancelled), so queries run
here and not in the server. The process holds no catalog and no user code; the gateway describes
the tables. Its own limits: memory by the kernel, and an alarm that ends it if the gateway does not.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from neuralake.clock import Clock, SystemClock
from neuralake.delta import Newest, Snapshot
from neuralake.errors import NeuralakeError, QueryError
from neuralake.queue.topic import topic_of
from neuralake.serve.caller import Caller
from neuralake.serve.conceal import concealer
from neuralake.serve.execute import execute
from neuralake.serve.messages import (
    BUG,
    Ask,
    AskPage,
    AskQueue,
    Began,
    Failed,
    Given,
    Limits,
    Page,
    QueueState,
    Ready,
    Run,
    Source,
    Start,
    Tail,
    error_of,
    receive,
    send,
)
from neuralake.serve.piped_queue import PipedQueue
from neuralake.serve.session import Session
from neuralake.storage import LogStore, is_local, open_store

__all__ = ["main", "serve"]

# The gateway ends a late query itself; the alarm is for the case that the gateway is gone.
_ALARM_GRACE_S = 5.0
# A process that is idle uses no time; one whose threads run on after their query uses it all.
_CALM_PERIOD_S = 0.02
_CALM_SHARE = 0.25
_CALM_TRIES = 50
# Stacks of the engine's threads, 2 MiB each: some 25 in the widest plans seen. It may want up to
# 512 to read files in, but does with those it has when the kernel gives no more.
_STACKS_BYTES = 64 * 2 * 1024 * 1024
# Below the server, whose watch must be on time on a busy machine.
_NICENESS = 5


def main() -> None:
    """Serve the pipes that standard input and output are."""
    inbox = os.fdopen(os.dup(0), "rb")
    outbox = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints or reads must not touch the pipes.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with suppress(BrokenPipeError):  # The gateway went away: nobody waits for an answer.
        serve(inbox, outbox, spill_folder=Path.cwd(), clock=SystemClock())
    # Not `sys.exit`: runtimes of native libraries may hang or abort while they are torn down.
    os._exit(0)


def serve(inbox: BinaryIO, outbox: BinaryIO, *, spill_folder: Path, clock: Clock) -> None:
    """Answer queries until the inbox ends, or until this process is not fit for another one."""
    start = receive(inbox)
    if not isinstance(start, Start):
        return
    os.nice(_NICENESS)
    stores = _Stores(start)
    _warm_up(start, stores, spill_folder)
    _limit_memory(start.limits)
    # What the engine keeps from query to query is not the next one's fault. Its allocators give
    # back pages, but hardly any address space, which is what the kernel's limit counts.
    rss_bytes_max = _rss_bytes() + start.limits.memory_bytes_max // 4
    data_bytes_max = _data_bytes() + start.limits.memory_bytes_max // 4
    send(outbox, Ready(base_bytes=_rss_bytes()))
    while isinstance(run := receive(inbox), Run):
        signal.setitimer(signal.ITIMER_REAL, run.timeout_s + _ALARM_GRACE_S)
        send(outbox, Began())
        is_clean = _answer(run, start, stores, inbox, outbox, spill_folder, clock)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not (is_clean or _is_calm(clock)):
            return
        if _rss_bytes() > rss_bytes_max or _data_bytes() > data_bytes_max:
            return
        send(outbox, Ready())


class _Stores:
    """The stores of tables, and what was read of their logs, kept from query to query."""

    def __init__(self, start: Start) -> None:
        self._profiles = start.profiles
        self._opened: dict[str, LogStore] = {}
        self._newest: dict[str, Newest] = {}

    @property
    def endpoints(self) -> list[str]:
        """Servers that no answer should name."""
        options = [store.storage_options for store in self._opened.values()]
        return [option["AWS_ENDPOINT_URL"] for option in options if "AWS_ENDPOINT_URL" in option]

    def at(self, uri: str) -> LogStore:
        if uri not in self._opened:
            self._opened[uri] = open_store(uri, self._profiles)
        return self._opened[uri]

    def newest(self, uri: str) -> Snapshot:
        """The table as it is now."""
        if uri not in self._newest:
            self._newest[uri] = Newest(self.at(uri))
        return self._newest[uri].snapshot()


def _answer(
    run: Run,
    start: Start,
    stores: _Stores,
    inbox: BinaryIO,
    outbox: BinaryIO,
    spill_folder: Path,
    clock: Clock,
) -> bool:
    """Send the answer; whether the query ran to its end, so that none of it can still run."""

    def ask(question: Ask | AskQueue | AskPage) -> Given | QueueState | Page:
        send(outbox, question)
        given = receive(inbox)
        if isinstance(given, Failed):
            raise error_of(given)
        if isinstance(given, Given | QueueState | Page):
            return given
        raise BrokenPipeError("the gateway went away")

    def function_rows(database: str, name: str) -> pa.Table:
        given = ask(Ask(database=database, table=name))
        assert isinstance(given, Given)  # noqa: S101 it answers this question; for mypy
        return pa.ipc.open_stream(pa.py_buffer(given.rows)).read_all()

    conceal = concealer(start.databases, spill_folder=spill_folder, endpoints=stores.endpoints)
    try:
        session = Session(
            _readable(start.databases, run.readable),
            function_rows=function_rows,
            queue_of=partial(PipedQueue, ask=ask) if run.live else None,
            store_at=stores.at,
            newest_at=stores.newest,
            conceal=conceal,
            memory_bytes_max=start.limits.memory_bytes_max,
            spill_folder=spill_folder,
        )
        message = None
        for message in execute(run, session, start.limits, clock):
            send(outbox, message)
    except BrokenPipeError:
        raise
    except NeuralakeError as error:
        facts = {
            name: conceal(fact) if isinstance(fact, str) else fact
            for name, fact in error.facts.items()
        }
        failed = Failed(error=type(error).__name__, message=conceal(error.message), facts=facts)
        send(outbox, failed)
    except MemoryError:
        text = "The query needs more memory than it may use. Ask for fewer rows or groups."
        send(outbox, Failed(error=QueryError.__name__, message=text, facts={"reason": "memory"}))
    except Exception:  # noqa: BLE001 the edge of this process: the gateway logs it
        send(outbox, Failed(error=BUG, message=traceback.format_exc(), facts={}))
    else:
        return isinstance(message, Tail) and not message.truncated
    return False


def _readable(
    databases: Mapping[str, Mapping[str, Source]], globs: Sequence[str]
) -> dict[str, dict[str, Source]]:
    """The tables that a query may know of, in databases that have one."""
    caller = Caller("", read=tuple(globs))
    found = {
        database: {
            name: source
            for name, source in tables.items()
            if caller.may("read", topic_of(database, name))
        }
        for database, tables in databases.items()
    }
    return {database: tables for database, tables in found.items() if tables}


def _warm_up(start: Start, stores: _Stores, spill_folder: Path) -> None:
    """Start the engine's threads and load its code, so that the memory limit begins above them."""
    for tables in start.databases.values():
        for source in tables.values():
            if source.uri and not is_local(source.uri):
                with suppress(NeuralakeError):  # The query that needs it tells.
                    stores.at(source.uri)
    session = Session(
        {},
        function_rows=lambda *_: pa.table({}),
        store_at=stores.at,
        conceal=str,
        memory_bytes_max=start.limits.memory_bytes_max,
        spill_folder=spill_folder,
    )
    session.context.sql("SELECT 1").collect()


def _limit_memory(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The gateway ends a query whose resident memory is over the limit. This is for the one
        # large allocation that is quicker than the gateway looks; stacks of threads count too.
        size = _data_bytes() + limits.memory_bytes_max + _STACKS_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        # If the machine itself runs out of memory, the kernel takes this process, not the server.
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")


def _rss_bytes() -> int:
    # Elsewhere than on Linux neither is known, nor is the limit above enforced.
    return _status_bytes("VmRSS") if sys.platform == "linux" else 0


def _data_bytes() -> int:
    return _status_bytes("VmData") if sys.platform == "linux" else 0


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1]) * 1024


def _is_calm(clock: Clock) -> bool:
    """Whether the engine's threads came to rest after a query that did not run to its end."""
    never = threading.Event()
    for _ in range(_CALM_TRIES):
        before_s = time.process_time()
        clock.wait_s(_CALM_PERIOD_S, never)
        if time.process_time() - before_s < _CALM_SHARE * _CALM_PERIOD_S:
            return True
    return False


if __name__ == "__main__":
    main()
