"""Run the HTTP application: in this process until a signal, or in a thread with a handle.

Stopping is orderly: no new connections, requests in flight get their answers, then the queue is
closed (only where the server owns it).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from neuralake.catalog import Catalog
from neuralake.clock import Clock
from neuralake.errors import NeedsAttention, UsageError
from neuralake.ingest.app import create_app
from neuralake.ingest.fast_connection import connection_kind
from neuralake.ingest.guard import check_bind_host
from neuralake.settings import Settings, is_loopback
from neuralake.telemetry import Telemetry

__all__ = ["RunningServer", "run_server", "start_server"]

# Requests in flight get this long after the signal; `wait=committed` may be longer and is cut.
_GRACE_S = 10
_START_S_MAX = 30.0
# Clients let go of a quiet connection after 4 s (ours) or 5 s (httpx). Were we as quick, a request
# would now and then meet the end of its connection.
_KEEP_ALIVE_S = 10
# When there are so many, the slowest is closed for a new one: a laptop's file descriptors end at
# 1,024.
_CONNECTIONS_MAX = 512
_CERTIFICATE_POLL_S = 30.0
_log = logging.getLogger(__name__)


def run_server(
    catalog: Catalog,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was begun, close the queue and return.

    Args:
        port: 0 picks a free one.
        on_started: called once with the server's URL, when it accepts connections.

    Raises:
        UsageError: other machines could reach `host`, and it is not safe that they do; the port is
            taken; or the certificate cannot be used.
    """
    with _listen(catalog, host, port) as listening:
        server = _Server(
            _config(catalog, host, clock, telemetry),
            started=lambda: on_started(_url(listening, catalog)) if on_started else None,
        )
        try:
            server.run(sockets=[listening])
        finally:
            catalog.close()


class RunningServer:
    """A server in a thread of this process. `stop` it before closing the catalog's queue."""

    def __init__(self, url: str, server: uvicorn.Server, thread: threading.Thread) -> None:
        self.url = url
        self._server = server
        self._thread = thread

    def stop(self) -> None:
        """Finish requests in flight and stop; stopping again does nothing."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_server(
    catalog: Catalog,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listening: socket.socket | None = None,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> RunningServer:
    """Start serving in a thread; returns when it accepts connections. Touches no signals.

    Args:
        listening: a socket that is shared by `settings.server.processes` servers, instead of a
            port of our own; it is closed at the end.

    Raises:
        UsageError: as `run_server`.
        NeedsAttention: the application did not start.
    """
    check_bind_host(host, catalog.settings)
    started = threading.Event()
    sharers = 1 if listening is None else catalog.settings.server.processes
    server = _Server(_config(catalog, host, clock, telemetry, sharers), started=started.set)
    listens = listening or _listen(catalog, host, port)

    def serve() -> None:
        try:
            with listens:
                server.run(sockets=[listens])
        finally:
            started.set()

    url = _url(listens, catalog)
    thread = threading.Thread(target=serve, name="neuralake-http", daemon=True)
    thread.start()
    if not started.wait(_START_S_MAX) or not server.started:
        raise NeedsAttention("The HTTP server did not start; the log says why.")
    return RunningServer(url, server, thread)


class _Server(uvicorn.Server):
    """Tells when it is up, and takes signals as an order to return (uvicorn raises them again)."""

    def __init__(self, config: uvicorn.Config, *, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started
        app: Any = config.app
        self._end_waits: Callable[[], None] = app.state.end_waits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.config.ssl is not None:
            self._renewing = asyncio.create_task(self._renew_certificate())
        if self.started:
            self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_waits()
        await super().shutdown(sockets=sockets)

    async def _renew_certificate(self) -> None:
        """Take over certificates that were renewed, for the connections to come."""
        files = [Path(str(self.config.ssl_certfile)), Path(str(self.config.ssl_keyfile))]
        context = self.config.ssl
        seen = [file.stat().st_mtime_ns for file in files]
        while context is not None:
            await asyncio.sleep(_CERTIFICATE_POLL_S)
            try:
                found = [file.stat().st_mtime_ns for file in files]
                if found != seen:
                    context.load_cert_chain(str(files[0]), str(files[1]))
                    _log.info("took over the renewed certificate %s", files[0])
                seen = found
            except (OSError, ssl.SSLError) as error:
                # Half a renewal, perhaps: the old one goes on, and the next look finds the rest.
                _log.warning("cannot take over the certificate %s: %s", files[0], error)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _config(
    catalog: Catalog,
    host: str,
    clock: Clock | None,
    telemetry: Telemetry | None,
    sharers: int = 1,
) -> uvicorn.Config:
    settings = catalog.settings
    is_public = not is_loopback(host)
    config = uvicorn.Config(
        create_app(catalog, clock=clock, telemetry=telemetry, is_public=is_public, sharers=sharers),
        http=connection_kind(),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=_CONNECTIONS_MAX + 1,  # uvicorn refuses at it, we from it on.
        ssl_certfile=_file(settings, settings.server.tls_cert),
        ssl_keyfile=_file(settings, settings.server.tls_key),
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"server.tls_cert and server.tls_key ({settings.server.tls_cert}, "
            f"{settings.server.tls_key}) are no certificate and its key: {error}.",
            name="server.tls_cert",
        ) from error
    return config


def _file(settings: Settings, name: str) -> str | None:
    return str(settings.path(name)) if name else None


def _listen(catalog: Catalog, host: str, port: int) -> socket.socket:
    check_bind_host(host, catalog.settings)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another server.port, or 0 "
            f"for any free one.",
            host=host,
            port=port,
        ) from error
    return listening


def _url(listening: socket.socket, catalog: Catalog) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "https" if catalog.settings.server.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
