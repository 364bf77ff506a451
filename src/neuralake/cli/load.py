"""`neuralake ingest`: files into a stream table, through a running server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuralake.cli.inspect import find_definition
from neuralake.cli.session import Session
from neuralake.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from neuralake.ingest.files import FileProgress, FileReport

__all__ = ["add_to", "ingest"]


def ingest(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="As database.table.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV, NDJSON or Parquet.")],
    url: Annotated[
        str | None, typer.Option("--url", help="The server. Default: the one that runs here.")
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(
            "--null",
            metavar="TEXT",
            help="A text of CSV fields that means null, besides the empty one; may be repeated.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Store rows that were sent before once more.")
    ] = False,
) -> None:
    """Send files to a table. After a break, the same command goes on where it was.

    When it ends, every row is durable. Sending a file again adds nothing, and of a file that has
    grown or was mended only what is new.
    """
    from neuralake.ingest.file_rows import check_readable
    from neuralake.ingest.files import send_file
    from neuralake.supervise import stop_event

    session: Session = context.obj
    settings = session.settings
    database, definition = find_definition(session.catalog, name)
    if definition.stream is None or definition.schema is None:
        from neuralake.ingest.target import takes_no_rows

        raise takes_no_rows(database, definition)
    for file in files:  # Before the first of them is sent.
        check_readable(file)
    address = _awaited_url(session, url) if url else _running_url(session)
    stop = stop_event()
    for file in files:
        with _Progress(session, file) as progress:
            report = send_file(
                file,
                url=address,
                database=database,
                table=definition.name,
                schema=definition.schema,
                state_folder=settings.state_folder / "ingest",
                null_values=("", *(null or ())),
                again=again,
                on_progress=progress,
                stop=stop,
                # Not an option: those are seen by everybody who lists processes.
                token=os.environ.get("NEURALAKE_TOKEN", ""),
            )
        rows = "1 row is" if report.rows == 1 else f"{report.rows:,} rows are"
        text = f"{file}: {rows} in {name}{_of_these(report)}"
        if report.dead_letters:
            text += f"; of them {report.dead_letters:,} are dead letters: they break its rules"
        session.out.print(text, markup=False, soft_wrap=True)


def _of_these(report: FileReport) -> str:
    before = report.rows_skipped + report.rows_repeated
    if not before:
        return ""
    if before < report.rows:
        return f", {before:,} of them since an earlier run"
    return ", all of them since an earlier run (--again stores them once more)"


def _awaited_url(session: Session, url: str) -> str:
    """`url`, which is told to be waited for if nothing answers there yet."""
    from neuralake.ingest.files import GIVE_UP_S
    from neuralake.supervise.answering import unready

    if unready(url) is None:
        session.err.print(
            f"Nothing answers at {url} yet. It is waited for, for {GIVE_UP_S:.0f} s at most; "
            f"Ctrl-C ends that.",
            markup=False,
            soft_wrap=True,
        )
    return url


def _running_url(session: Session) -> str:
    """The address of the platform of this lake, or of a server that runs by itself.

    Raises:
        Unavailable: neither is there; waiting for one without a word would look like work.
    """
    from neuralake.supervise import read_state
    from neuralake.supervise.answering import is_healthy

    running = read_state(session.settings.state_folder)
    if running is not None:
        return running.url
    server = session.settings.server
    url = f"{'https' if server.tls_cert else 'http'}://{server.host}:{server.port}"
    if not is_healthy(server.host, server.port, tls=bool(server.tls_cert)):
        raise Unavailable(
            f"No platform runs on this lake, and nothing answers at {url}. Start it with "
            f"`neuralake up`, or name a server with --url.",
            url=url,
        )
    return url


class _Progress:
    """A bar on a terminal; nothing elsewhere."""

    def __init__(self, session: Session, file: Path) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        from neuralake.cli.terminal import printable

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=session.err,
            disable=not session.err.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(printable(file.name), total=None, rows=0)

    def __enter__(self) -> Callable[[FileProgress], None]:
        self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, now: FileProgress) -> None:
        self._bar.update(self._task, completed=now.bytes_done, total=now.bytes_total, rows=now.rows)


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command(rich_help_panel="Run")(ingest)
