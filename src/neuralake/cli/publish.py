"""`neuralake site`: the catalog as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuralake.cli.session import Session

__all__ = ["add_to", "build"]

site = typer.Typer(
    help="The catalog site: static pages that open from a folder.", no_args_is_help=True
)


@site.callback()
def _site() -> None:
    """The catalog site: static pages that open from a folder."""


@site.command()
def build(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where to. Default: site.folder.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="The server's address in the examples.")
    ] = None,
) -> None:
    """Write the catalog's pages; with a server running, it shows them at once."""
    from neuralake.site import build_site
    from neuralake.supervise import read_state

    session: Session = context.obj
    settings = session.settings
    running = read_state(settings.state_folder)
    report = build_site(
        session.catalog,
        folder if folder is not None else settings.path(settings.site.folder),
        base_url=base_url or (running.url if running else None),
    )
    session.out.print(str(report.index), markup=False, soft_wrap=True)
    for name, problem in report.problems.items():
        session.err.print(f"{name} could not be described: {problem}", markup=False, soft_wrap=True)
    session.err.print(
        f"{report.tables} tables, {report.files} files: {report.written} written, "
        f"{report.removed} removed."
    )
    if running:
        session.err.print(f"Served at {running.url}/", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(site, name="site", rich_help_panel="Read")
