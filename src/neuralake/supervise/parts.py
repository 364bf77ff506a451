"""The parts of a platform, in the order in which they stop: the order of the data.

The same four run as processes (`tree`), as threads (`embedded`) and by themselves
(`neuralake serve`, `write`, …). Each is imported when it runs: a writer needs no web server.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence

from neuralake.catalog import Catalog
from neuralake.errors import UnknownName
from neuralake.telemetry import Telemetry, shared

__all__ = ["PARTS", "run_part"]

PARTS = ("serve", "write", "compact", "vacuum")


def run_part(
    name: str,
    catalog: Catalog,
    *,
    stop: threading.Event,
    port: int | None = None,
    tables: Sequence[str] | None = None,
    listening: socket.socket | None = None,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Run the part called `name` until `stop` is set; return when its last work is safe.

    Args:
        port: of the server, instead of the setting; 0 picks a free one.
        tables: that `write` is to write (`database.table`); all streams if None.
        listening: of the server: a socket that `settings.server.processes` servers share.
        on_started: told the server's URL when it answers.

    Raises:
        UnknownName: there is no part of this name.
    """
    if name not in PARTS:
        raise UnknownName(
            f"No part {name!r} of the platform. There are: {', '.join(PARTS)}.",
            kind="part",
            name=name,
            known=list(PARTS),
        )
    # The server's is the catalog's, which its queue counts into; in one process with the others,
    # each has its own.
    telemetry = catalog.telemetry if name == "serve" else Telemetry()
    with shared(catalog.settings.state_folder, name, telemetry):
        _run(name, catalog, stop, telemetry, port, listening, tables, on_started)


def _run(
    name: str,
    catalog: Catalog,
    stop: threading.Event,
    telemetry: Telemetry,
    port: int | None,
    listening: socket.socket | None,
    tables: Sequence[str] | None,
    on_started: Callable[[str], None] | None,
) -> None:
    if name == "serve":
        from neuralake.ingest.server import start_server

        server = catalog.settings.server
        asked = server.port if port is None else port
        with start_server(catalog, host=server.host, port=asked, listening=listening) as running:
            if on_started is not None:
                on_started(running.url)
            stop.wait()
    elif name == "write":
        from neuralake.writer import run_writer

        run_writer(catalog, stop=stop, tables=tables, telemetry=telemetry)
    elif name == "compact":
        from neuralake.maintain import run_compaction

        run_compaction(catalog, stop=stop, telemetry=telemetry)
    else:
        from neuralake.maintain import run_vacuum

        run_vacuum(catalog, stop=stop, telemetry=telemetry)
