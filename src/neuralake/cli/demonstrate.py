"""`neuralake demo`: the platform at work, on a machine that has nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuralake.cli.session import Session

__all__ = ["add_to", "demo"]


def demo(
    context: typer.Context,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=1, help="End by itself after so many seconds of streams."),
    ] = None,
    speed_up: Annotated[
        float,
        typer.Option("--speed-up", min=1, help="How much faster than in 2013 the flights leave."),
    ] = 7 * 86_400.0,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Make the lake here and keep it. Default: a scratch folder."),
    ] = None,
) -> None:
    """Watch the platform work on real flights and a simulated neural session.

    At the end every acknowledged row is looked for in its table. The exit code is 0 only if each
    is there exactly once.
    """
    from neuralake.demo.run import DemoOptions, run_demo

    session: Session = context.obj
    options = DemoOptions(seconds=seconds, speed_up=speed_up, folder=folder)
    if not run_demo(options, session.out):
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command(rich_help_panel="Begin")(demo)
