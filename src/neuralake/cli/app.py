"""The commands in one place, what holds for all of them, and how their errors end.

Commands import what they need when they run: `neuralake --help` loads no engine and no server.
"""

from __future__ import annotations

import inspect as inspect_module
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from neuralake import __version__
from neuralake.cli import (
    dead_letters,
    demonstrate,
    inspect,
    load,
    process,
    project,
    publish,
    schema,
    storage,
    token,
)
from neuralake.cli.session import Session
from neuralake.errors import NeuralakeError, outcome

__all__ = ["app", "every_command"]


class _Commands(TyperGroup):
    """Ends a command that raised: the message on standard error and the exit code of its kind."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None  # As a shell reports a process that SIGINT ended.
        except BrokenPipeError:
            # `neuralake query … | head`: who reads has had enough. Nothing is left to flush.
            sys.stdout = None
            raise typer.Exit(0) from None
        except Exception as error:
            if type(error).__module__.split(".")[0] in ("typer", "click"):
                raise  # A wrong option, or an exit: the parser's own to tell.
            raise typer.Exit(_report(error, ctx.obj)) from None


def _report(error: Exception, session: Session | None) -> int:
    from neuralake.cli.terminal import printable

    if session is not None and session.debug:
        traceback.print_exception(error, file=sys.stderr)
    elif isinstance(error, NeuralakeError):
        typer.echo(printable(f"Error: {error}"), err=True)
    else:
        typer.echo(printable(f"Unexpected {type(error).__name__}: {error}"), err=True)
        typer.echo("Run it again with `neuralake --debug …` to see where.", err=True)
    return outcome(error).exit_code


app = typer.Typer(
    name="neuralake",
    cls=_Commands,
    help="Define a table once, in Python; get ingestion, a fast Delta table, a lazy client, "
    "SQL and a catalog site.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"neuralake {__version__}")
        raise typer.Exit


@app.callback()
def every_command(
    context: typer.Context,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            "-s",
            metavar="FILE",
            help="The lake's settings. Default: the nearest neuralake.toml, here or above.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """Define a table once, in Python; get everything else from it."""
    del version
    context.obj = Session(settings_file=settings, debug=debug)


def _unwrap(group: typer.Typer) -> None:
    """Make each paragraph of a command's docstring one line, which the terminal then wraps.

    Left as they are, the docstring's own line ends would stay in the help.
    """
    for command in group.registered_commands:
        text = inspect_module.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    for below in group.registered_groups:
        if below.typer_instance is not None:
            _unwrap(below.typer_instance)


for _module in (
    *(demonstrate, project, process, load, dead_letters),
    *(inspect, schema, publish, storage, token),
):
    _module.add_to(app)
_unwrap(app)
