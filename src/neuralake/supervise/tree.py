"""`neuralake up`: the whole platform as one tree of processes, from one command.

The parts are processes that share nothing but the queue and the tables, so each may die at any
moment: the supervisor says why and starts it again, with back-off. Stopping goes with the flow of
the data: first the server (finishes its requests), then the writer (commits what is acknowledged),
then the rest. If the supervisor itself is killed, the parts notice and stop (see `lifeline`).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention
from neuralake.settings import Settings, check_own_queue
from neuralake.supervise.answering import is_healthy
from neuralake.supervise.child import Child
from neuralake.supervise.family import Family, how_it_is
from neuralake.supervise.lock import LakeLock
from neuralake.supervise.parts import PARTS
from neuralake.supervise.servers import STOP_S_MAX, listen, server_commands, server_environment
from neuralake.supervise.state import UpState, remove_state, write_state

__all__ = ["Supervisor"]

# The writer may take 20 s to drain; the others finish one request or one pass.
_STOP_S_MAX = {"serve": STOP_S_MAX, "write": 25.0}
_STOP_S_MAX_OTHER = 5.0
_START_S_MAX = 60.0
_POLL_S = 0.05


class Supervisor:
    """A running platform: `with Supervisor(settings) as platform: platform.watch(stop)`.

    Entering takes the lake's lock, starts the parts and returns when the server answers. `on_line`
    gets `(part, line)` for what a part writes and, as `up`, what the supervisor has to say; it is
    called from several threads. Leaving stops the parts in order. Of the server there are
    `settings.server.processes`.

    Args:
        options: options before the command of each part, such as `--settings FILE`.

    Raises:
        UsageError: another platform runs on this lake, its queue is another machine's, or the port
            is taken.
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
        self._family: Family | None = None
        self._port = 0
        self._started_s = 0.0

    def __enter__(self) -> Supervisor:
        check_own_queue(self._settings)
        where = self._settings.server
        with ExitStack() as undo:
            undo.enter_context(LakeLock(self._folder))
            undo.callback(remove_state, self._folder)
            # The port is taken once and for all: a server that is started again keeps its
            # address, and who connects meanwhile waits.
            listening = undo.enter_context(listen(where.host, where.port))
            self._port = int(listening.getsockname()[1])
            self._started_s = self._clock.now_s()
            self._family = family = self._made(listening)
            undo.callback(self._stop_parts, family, listening)
            family.start()
            self._write_state()
            if "serve" in self._parts:
                self._await_server(family)
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
        return self._family.restarts if self._family else {}

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by part."""
        return self._family.pids if self._family else {}

    def watch(self, stop: threading.Event) -> None:
        """Keep the parts running until `stop` is set."""
        while not self._clock.wait_s(_POLL_S, stop):
            self.check()

    def check(self) -> None:
        """Start again what has ended, if its time has come."""
        if self._family is not None and self._family.check():
            self._write_state()

    def _made(self, listening: socket.socket) -> Family:
        servers = server_commands(self._settings, listening, options=self._options)
        commands: dict[str, list[str]] = {}
        for part in self._parts:
            commands |= servers if part == "serve" else {part: [*self._options, part, "--lifeline"]}
        return Family(
            commands,
            folder=Path(self._settings.folder),
            environment=server_environment(self._settings, listening),
            descriptors=dict.fromkeys(servers, (listening.fileno(),)),
            clock=self._clock,
            on_line=self._on_line,
            tell=lambda line: self._on_line("up", line),
        )

    def _await_server(self, family: Family) -> None:
        deadline_s = self._clock.monotonic_s() + _START_S_MAX
        never = threading.Event()
        where = self._settings.server
        while not is_healthy(where.host, self._port, tls=bool(where.tls_cert)):
            server = family.child("serve")
            # What ended by itself would end so again. What was killed may come up the next time.
            if server is not None and (server.exit_code or 0) > 0:
                raise _failed_start(server, how_it_is(server))
            if server is not None and self._clock.monotonic_s() > deadline_s:
                raise _failed_start(server, f"did not answer within {_START_S_MAX:g} s")
            self.check()
            self._clock.wait_s(_POLL_S, never)

    def _stop_parts(self, family: Family, listening: socket.socket) -> None:
        # First our own: else connections would go on to come, to wait for nobody.
        listening.close()
        for part in self._parts:
            names = [name for name in family.pids if name.partition("-")[0] == part]
            family.stop(names, timeout_s=_STOP_S_MAX.get(part, _STOP_S_MAX_OTHER))

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


def _ignore(name: str, line: str) -> None:
    del name, line


def _failed_start(child: Child, why: str) -> NeedsAttention:
    lines = child.last_lines()
    return NeedsAttention(
        "\n".join([f"The {child.name} process {why}. It wrote:", *lines] if lines else [why]),
        part=child.name,
        lines=lines,
    )
