"""`neuralake up`: the whole platform as one tree of processes, from one command.

The parts are processes that share nothing but the queue and the tables, so each may die at any
moment: the supervisor says why and starts it again, with back-off. Stopping goes with the flow of
the data: first the server (finishes its requests), then the writer (commits what is acknowledged),
then the rest. If the supervisor itself is killed, the parts notice and stop (see `lifeline`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, UsageError
from neuralake.settings import Settings
from neuralake.supervise.child import Child, describe_exit, restart_delay_s
from neuralake.supervise.lock import LakeLock
from neuralake.supervise.parts import PARTS
from neuralake.supervise.state import UpState, remove_state, write_state

__all__ = ["Supervisor", "is_healthy"]

# The writer may take 20 s to drain; the others finish one request or one pass.
_STOP_S_MAX = {"serve": 10.0, "write": 25.0}
_STOP_S_MAX_OTHER = 5.0
_START_S_MAX = 60.0
_POLL_S = 0.05
# A part that ran this long was well: its next end is the first of a new row.
_WELL_AFTER_S = 5.0


class Supervisor:
    """A running platform: `with Supervisor(settings) as platform: platform.watch(stop)`.

    Entering takes the lake's lock, starts the parts and returns when the server answers. `on_line`
    gets `(part, line)` for what a part writes and, as `up`, what the supervisor has to say; it is
    called from several threads. Leaving stops the parts in order.

    Args:
        options: options before the command of each part, such as `--settings FILE`.

    Raises:
        UsageError: another platform runs on this lake, or the port is taken.
        NeedsAttention: the server did not come up; with the last `lines` that it wrote.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        options: Sequence[str] = (),
        parts: Sequence[str] = PARTS,
        clock: Clock | None = None,
        on_line: Callable[[str, str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._options = list(options)
        self._parts = tuple(parts)
        self._clock = clock or SystemClock()
        self._on_line = on_line or _ignore
        self._folder = settings.state_folder
        self._exits = ExitStack()
        self._children: dict[str, Child] = {}
        self._due_s: dict[str, float] = {}
        self._failures = dict.fromkeys(self._parts, 0)
        self._restarts = dict.fromkeys(self._parts, 0)
        self._port = 0
        self._started_s = 0.0

    def __enter__(self) -> Supervisor:
        with ExitStack() as undo:
            undo.enter_context(LakeLock(self._folder))
            undo.callback(remove_state, self._folder)
            self._port = _free_port(self._settings.server.host, self._settings.server.port)
            self._started_s = self._clock.now_s()
            undo.callback(self._stop_parts)
            for name in self._parts:
                self._start(name)
            self._write_state()
            if "serve" in self._parts:
                self._await_server()
            self._exits = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    @property
    def url(self) -> str:
        """Where the server listens, also after it was started again."""
        where = self._settings.server
        return f"{'https' if where.tls_cert else 'http'}://{where.host}:{self._port}"

    @property
    def restarts(self) -> dict[str, int]:
        """How often each part was started again."""
        return dict(self._restarts)

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by part."""
        return {name: child.pid for name, child in list(self._children.items())}

    def watch(self, stop: threading.Event) -> None:
        """Keep the parts running until `stop` is set."""
        while not self._clock.wait_s(_POLL_S, stop):
            self.check()

    def check(self) -> None:
        """Start again what has ended, if its time has come."""
        now_s = self._clock.monotonic_s()
        ended = [child for child in self._children.values() if child.exit_code is not None]
        for child in ended:
            self._bury(child, now_s)
        due = [name for name, due_s in self._due_s.items() if due_s <= now_s]
        for name in due:
            del self._due_s[name]
            self._restarts[name] += 1
            self._start(name)
        if ended or due:
            self._write_state()

    def _bury(self, child: Child, now_s: float) -> None:
        del self._children[child.name]
        well = now_s - child.started_s >= _WELL_AFTER_S
        self._failures[child.name] = 1 if well else self._failures[child.name] + 1
        delay_s = restart_delay_s(self._failures[child.name], child.exit_code or 0)
        self._due_s[child.name] = now_s + delay_s
        self._on_line(
            "up",
            f"WARNING {child.name} (process {child.pid}) {_how(child)}; starting it again in "
            f"{delay_s:g} s",
        )
        child.stop(timeout_s=0.0)  # It has ended: this closes its pipes.

    def _start(self, name: str) -> None:
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # A crash below Python says where it was, and that line is the reason we give.
            "PYTHONFAULTHANDLER": "1",
            # The port is chosen once, so that a server that is started again keeps its address.
            "NEURALAKE_SERVER_PORT": str(self._port),
        }
        # -P: the catalog's folder is put on the path by who loads it, after the standard library.
        command = [sys.executable, "-P", "-m", "neuralake", *self._options, name, "--lifeline"]
        self._children[name] = Child(
            name,
            command,
            folder=Path(self._settings.folder),
            environment=environment,
            started_s=self._clock.monotonic_s(),
            on_line=self._on_line,
        )

    def _await_server(self) -> None:
        deadline_s = self._clock.monotonic_s() + _START_S_MAX
        never = threading.Event()
        where = self._settings.server
        while not is_healthy(where.host, self._port, tls=bool(where.tls_cert)):
            server = self._children.get("serve")
            # What ended by itself would end so again. What was killed may come up the next time.
            if server is not None and (server.exit_code or 0) > 0:
                raise _failed_start(server, _how(server))
            if server is not None and self._clock.monotonic_s() > deadline_s:
                raise _failed_start(server, f"did not answer within {_START_S_MAX:g} s")
            self.check()
            self._clock.wait_s(_POLL_S, never)

    def _stop_parts(self) -> None:
        for name in self._parts:
            if (child := self._children.pop(name, None)) is None:
                continue
            timeout_s = _STOP_S_MAX.get(name, _STOP_S_MAX_OTHER)
            if not child.stop(timeout_s=timeout_s):
                self._on_line(
                    "up", f"WARNING {name} did not stop within {timeout_s:g} s and was killed"
                )

    def _write_state(self) -> None:
        write_state(
            self._folder,
            UpState(
                url=self.url,
                pid=os.getpid(),
                started_s=self._started_s,
                processes=self.pids,
                restarts=self.restarts,
            ),
        )


def is_healthy(host: str, port: int, *, tls: bool = False, timeout_s: float = 2.0) -> bool:
    """Whether a server answers `GET /health/live` with 200; who it is, is not checked.

    It is up then; that it has room for rows is another question, which does not hold up a start.
    """
    connection: http.client.HTTPConnection
    if tls:
        # Our own server at an address of this machine, which its certificate need not name.
        context = ssl._create_unverified_context()  # noqa: S323 nothing is sent, nothing believed
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _ignore(name: str, line: str) -> None:
    del name, line


def _free_port(host: str, port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server will: a port whose last connections still linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"Cannot listen on {host}:{port}: {error.strerror}. "
                f"Use --port 0 for a free port, or set server.port.",
                host=host,
                port=port,
            ) from error
        return int(probe.getsockname()[1])


def _how(child: Child) -> str:
    code = child.exit_code
    how = describe_exit(code) if code is not None else "runs"
    last = next((line for line in reversed(child.last_lines()) if line.strip()), None)
    return f"{how} ({last.strip()})" if last else how


def _failed_start(child: Child, why: str) -> NeedsAttention:
    lines = child.last_lines()
    return NeedsAttention(
        "\n".join([f"The {child.name} process {why}. It wrote:", *lines] if lines else [why]),
        part=child.name,
        lines=lines,
    )
