"""Several server processes on one port: more cores for decoding, and one may die alone.

They inherit one listening socket, which the process that starts them keeps open: a connection that
comes while none of them can take it waits, instead of being refused.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from neuralake.clock import Clock, SystemClock
from neuralake.errors import UsageError
from neuralake.settings import Settings
from neuralake.supervise.family import Family

__all__ = ["STOP_S_MAX", "listen", "run_servers", "server_commands", "server_environment"]

STOP_S_MAX = 10.0
"""Longest time that servers may take to finish the requests that they have begun."""
_POLL_S = 0.05
# Connections that wait until a server takes them.
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket for servers to inherit; `port` 0 takes a free one.

    Raises:
        UsageError: the port is taken, or the address is not this machine's.
    """
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM
    )
    # A port whose last connections still linger is free.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            f"Use --port 0 for a free port, or set server.port.",
            host=host,
            port=port,
        ) from error
    return listening


def server_commands(
    settings: Settings, listening: socket.socket, *, options: Sequence[str]
) -> dict[str, list[str]]:
    """The command of each server process, by name: `serve`, `serve-2`, …"""
    command = [*options, "serve", "--lifeline", "--listening", str(listening.fileno())]
    names = ["serve", *(f"serve-{number}" for number in range(2, settings.server.processes + 1))]
    return dict.fromkeys(names, command)


def server_environment(settings: Settings, listening: socket.socket) -> dict[str, str]:
    """What the servers must know that may have been said on the command line."""
    return {
        "NEURALAKE_SERVER_PORT": str(listening.getsockname()[1]),
        "NEURALAKE_SERVER_PROCESSES": str(settings.server.processes),
    }


def run_servers(
    settings: Settings,
    *,
    stop: threading.Event,
    options: Sequence[str] = (),
    clock: Clock | None = None,
    on_line: Callable[[str, str], None],
) -> None:
    """Keep `settings.server.processes` servers running until `stop` is set.

    Args:
        options: options before the command of each, such as `--settings FILE`.
        on_line: gets `(name, line)` of what they write and, as `serve`, what is said of them.

    Raises:
        UsageError: as `listen`; or other machines could reach the host, and it is not safe.
    """
    from neuralake.ingest.guard import check_bind_host

    clock, where = clock or SystemClock(), settings.server
    check_bind_host(where.host, settings)
    with listen(where.host, where.port) as listening:
        commands = server_commands(settings, listening, options=options)
        family = Family(
            commands,
            folder=Path(settings.folder),
            environment=server_environment(settings, listening),
            descriptors=dict.fromkeys(commands, (listening.fileno(),)),
            clock=clock,
            on_line=on_line,
            tell=lambda line: on_line("serve", line),
        )
        try:
            family.start()
            while not clock.wait_s(_POLL_S, stop):
                family.check()
            # First our own: else connections would go on to come, to wait for nobody.
            listening.close()
        finally:
            family.stop(family.pids, timeout_s=STOP_S_MAX)
