"""`neuralake token`: who may send rows and read tables over the network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from neuralake.cli.session import Session

if TYPE_CHECKING:
    from neuralake.ingest.tokens import Token, TokenFile

__all__ = ["add_to", "create", "list_tokens", "revoke"]

token = typer.Typer(
    help="Tokens: who may send rows and read tables over HTTP.", no_args_is_help=True
)
_Globs = Annotated[
    list[str] | None,
    typer.Option(metavar="TABLES", help="database.table, with * for any; give it again for more."),
]


@token.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for: rig-7, grafana.")],
    write: _Globs = None,
    read: _Globs = None,
    expires_days: Annotated[
        float | None, typer.Option("--expires-days", help="Default: it never expires.")
    ] = None,
) -> None:
    """Make a token and show it, once: only its hash is kept.

    From the first token on, every request needs one, from this machine too. It counts at once; a
    running server need not be restarted.
    """
    session: Session = context.obj
    file = _file(session)
    is_first = not file.is_there
    made, text = file.create(name, read=read or (), write=write or (), expires_days=expires_days)
    typer.echo(text)
    session.err.print(
        f"Token {made.id} for {name}. It is not shown again: send it as "
        f"'Authorization: Bearer …', or set NEURALAKE_TOKEN for `neuralake ingest`.",
        markup=False,
        soft_wrap=True,
    )
    if is_first:
        session.err.print(
            "From now on every request needs a token, from this machine too.", soft_wrap=True
        )


@token.command("list")
def list_tokens(context: typer.Context) -> None:
    """Show what each token is for and what it allows; never the token."""
    session: Session = context.obj
    file = _file(session)
    tokens = file.tokens()
    if not tokens:
        what = "No token counts: nobody is let in." if file.is_there else "There are no tokens."
        session.err.print(what, soft_wrap=True)
        return
    from rich.table import Table

    table = Table("id", "name", "write", "read", "created", "expires", box=None, pad_edge=False)
    for each in tokens:
        table.add_row(*_row(each))
    session.out.print(table)


@token.command()
def revoke(
    context: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="As `neuralake token list` says.")],
) -> None:
    """Let a token count no more, at once and for good."""
    session: Session = context.obj
    gone = _file(session).revoke(identity)
    session.out.print(f"Token {gone.id} ({gone.name}) counts no more.", markup=False)


def _file(session: Session) -> TokenFile:
    from neuralake.ingest.tokens import TokenFile

    return TokenFile(session.settings.tokens_path)


def _row(token: Token) -> list[str]:
    from rich.markup import escape

    texts = [token.id, token.name, " ".join(token.write) or "-", " ".join(token.read) or "-"]
    expires = "never" if token.expires_s is None else _day(token.expires_s)
    return [*map(escape, texts), _day(token.created_s), expires]


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(token, name="token", rich_help_panel="Run")
