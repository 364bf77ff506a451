"""`neuralake init`: a project that runs, to be changed into one's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from neuralake.cli.session import Session
from neuralake.errors import UsageError

__all__ = ["add_to", "init"]

_TEMPLATE = ("lake.py", "tables.py", "neuralake.toml", "README.md")


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new or empty-enough folder.")] = Path(),
) -> None:
    """Make a working project: definitions, settings and a README.

    Writes no file over one that is there: if one of its names is taken, it writes nothing.
    """
    session: Session = context.obj
    taken = [name for name in _TEMPLATE if (folder / name).exists()]
    if taken:
        raise UsageError(
            f"{folder.absolute()} already has {', '.join(taken)}; nothing was written. "
            f"Choose another folder: neuralake init NAME",
            taken=taken,
        )
    try:
        _write(folder)
    except OSError as error:
        raise UsageError(
            f"Cannot make a project in {folder.absolute()}: {error.strerror}. Choose another "
            f"folder: neuralake init NAME",
            name=str(folder),
        ) from error
    session.err.print(f"Wrote {', '.join(_TEMPLATE)} in {folder.absolute()}.", soft_wrap=True)
    go_there = "" if folder == Path() else f"cd {folder} && "
    session.err.print(f"Next: {go_there}neuralake up", soft_wrap=True)


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    template = files("neuralake.cli") / "template"
    for name in _TEMPLATE:
        # "x": a file that appeared since it was looked for is not written over either.
        with (folder / name).open("x", encoding="utf-8") as file:
            # Stored as *.txt: they are the user's modules, not modules of this package.
            file.write((template / f"{name}.txt").read_text(encoding="utf-8"))


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command(rich_help_panel="Begin")(init)
