"""Commands that run the platform: all of it (`up`), or one part until it is told to stop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated

import typer

from neuralake.cli.session import Session
from neuralake.errors import NeedsAttention
from neuralake.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from neuralake.delta import VacuumResult
    from neuralake.settings import Settings

__all__ = ["add_to", "compact", "serve", "up", "vacuum", "with_server", "write"]

_Lifeline = Annotated[
    bool,
    typer.Option("--lifeline", hidden=True, help="Stop when standard input ends (for `up`)."),
]
_Port = Annotated[
    int | None, typer.Option("--port", help="Port of the server; 0 picks a free one.")
]
_Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="Server processes that share the port.")
]
_Listening = Annotated[
    int | None,
    typer.Option("--listening", hidden=True, help="An open socket to serve (for `up`)."),
]


def up(context: typer.Context, port: _Port = None, processes: _Processes = None) -> None:
    """Run the whole platform: server, writer, compaction and vacuum, until Ctrl-C.

    A part that ends is started again. Ctrl-C and SIGTERM stop the parts in order: what was
    acknowledged is committed, or is in the queue for the next start.
    """
    from neuralake.cli.part_lines import PartLines
    from neuralake.supervise import Supervisor, stop_event

    session: Session = context.obj
    settings = with_server(session.settings, port=port, processes=processes)
    session.catalog.definitions()  # An error in the definitions is told once, and here.
    stop = stop_event()
    show = PartLines(session.err, as_json=settings.log.format == "json").show
    with Supervisor(settings, options=session.options, on_line=show) as platform:
        show("up", f"neuralake is up: {platform.url} (Ctrl-C stops it)")
        platform.watch(stop)
        show("up", "Stopping: the server, then the writer, then the rest.")
    show("up", "Stopped. Everything acknowledged is in the tables or in the queue.")


def serve(
    context: typer.Context,
    port: _Port = None,
    processes: _Processes = None,
    lifeline: _Lifeline = False,
    listening: _Listening = None,
) -> None:
    """Run the server: ingestion, SQL, and the catalog site once it is built."""
    from neuralake.supervise import run_part, run_servers, stop_event

    session: Session = context.obj
    session.log("serve")
    settings = with_server(session.settings, port=port, processes=processes)
    stop = stop_event(lifeline=lifeline)
    catalog = session.catalog

    def tell(url: str) -> None:
        session.tell(f"Listening on {url}")

    if listening is None and settings.server.processes > 1:
        catalog.definitions()  # An error in the definitions is told once, and here.
        run_servers(
            settings,
            stop=stop,
            options=session.options,
            on_line=lambda _, line: session.err.print(
                line, markup=False, highlight=False, soft_wrap=True
            ),
        )
        return
    shared = None if listening is None else socket.socket(fileno=listening)
    if shared is not None:
        shared.set_inheritable(False)  # It ends with us, not with a query's process.
    try:
        run_part("serve", catalog, stop=stop, port=port, listening=shared, on_started=tell)
    finally:
        catalog.close()


def write(
    context: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="Tables as database.table; all streams if none."),
    ] = None,
    lifeline: _Lifeline = False,
) -> None:
    """Run the writer: from the queue into the tables, each row exactly once."""
    from neuralake.supervise import run_part, stop_event

    session: Session = context.obj
    session.log("write")
    stop = stop_event(lifeline=lifeline)
    try:
        run_part("write", session.catalog, stop=stop, tables=tables or None)
    finally:
        session.catalog.close()  # Other writers then get our partitions at once.


def compact(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="One pass over all tables, then end.")
    ] = False,
    lifeline: _Lifeline = False,
) -> None:
    """Rewrite small files into large ones, and write checkpoints, on a cadence."""
    from neuralake.maintain import compact_all
    from neuralake.supervise import run_part, stop_event

    session: Session = context.obj
    session.log("compact")
    if not once:
        run_part("compact", session.catalog, stop=stop_event(lifeline=lifeline))
        return
    telemetry = Telemetry()
    for name, result in compact_all(session.catalog, telemetry=telemetry).items():
        session.out.print(
            f"{name}: {result.files_removed:,} files became {result.files_added:,} "
            f"({result.rows:,} rows)"
            if result.files_removed
            else f"{name}: nothing to do",
            markup=False,
            soft_wrap=True,
        )
    _refuse_failures(telemetry)


def vacuum(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="One pass over all tables, then end.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="One pass that also looks for files that no commit mentions."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One pass that only lists the files, and says why.")
    ] = False,
    lifeline: _Lifeline = False,
) -> None:
    """Remove files that no version inside the retention needs, on a cadence."""
    from neuralake.maintain import vacuum_all
    from neuralake.supervise import run_part, stop_event

    session: Session = context.obj
    session.log("vacuum")
    if not (once or full or dry_run):
        run_part("vacuum", session.catalog, stop=stop_event(lifeline=lifeline))
        return
    telemetry = Telemetry()
    results = vacuum_all(session.catalog, full=full, dry_run=dry_run, telemetry=telemetry)
    for name, result in results.items():
        for line in _vacuumed(name, result):
            session.out.print(line, markup=False, soft_wrap=True)
    _refuse_failures(telemetry)


def _vacuumed(name: str, result: VacuumResult) -> Iterator[str]:
    """What a vacuum did, or would do, in lines; the files only if they are still there."""
    if result.is_elsewhere:
        yield f"{name}: another process is at it"
        return
    verb = "could go" if result.is_dry_run else "removed"
    yield f"{name}: {result.count:,} files {verb} ({result.bytes:,} bytes)"
    for file in result.files if result.is_dry_run else ():
        yield f"  {file.name}  {file.bytes:,} bytes  {file.age_s / 3600:.1f} h  {file.why}"


def _refuse_failures(telemetry: Telemetry) -> None:
    """Raise NeedsAttention if a pass left a table out: a timer that runs it must notice."""
    failed = int(telemetry.counter("maintain_errors"))
    if failed:
        raise NeedsAttention(
            f"{failed} of the tables could not be looked after; see above.", failed=failed
        )


def with_server(
    settings: Settings, *, port: int | None = None, processes: int | None = None
) -> Settings:
    """`settings` with the server's port and processes, where they are given."""
    import msgspec

    given = {"port": port, "processes": processes}
    server = msgspec.structs.replace(
        settings.server, **{name: value for name, value in given.items() if value is not None}
    )
    return msgspec.structs.replace(settings, server=server)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    panel = "Run"
    for command in (up, serve, write, compact, vacuum):
        app.command(rich_help_panel=panel)(command)
