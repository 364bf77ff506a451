"""`neuralake schema`: how the columns of a table came to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from neuralake.cli.answer import Format, write_frame
from neuralake.cli.inspect import find_definition
from neuralake.cli.session import Session
from neuralake.errors import UnknownName, UsageError

__all__ = ["add_to", "history"]

schema = typer.Typer(help="Schemas of tables.", no_args_is_help=True)


@schema.callback()
def _group() -> None:
    """Schemas of tables."""


@schema.command()
def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="As database.table.")],
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How the answer is written.")
    ] = Format.TABLE,
) -> None:
    """Show the columns of a Delta table, and when those came that it had not at first.

    Each version that brought columns is a version of the schema; the first is 1.
    """
    import polars as pl

    from neuralake.delta import added_columns, snapshot

    session: Session = context.obj
    _, definition = find_definition(session.catalog, name)
    if definition.kind != "delta":
        raise UsageError(f"{name} is a {definition.kind} table: it has no log.", name=name)
    try:
        found = snapshot(session.catalog.store_of(definition))
    except UnknownName as error:
        raise UsageError(
            f"{name} is not written yet, so it has no schema but the declared one."
        ) from error
    came = {column.name: column for column in added_columns(found.state.metadata)}
    numbers = {
        version: 2 + at for at, version in enumerate(sorted({c.version for c in came.values()}))
    }
    rows = []
    for field in found.schema:
        column = came.get(field.name)
        version = None if column is None else column.version
        time = None if column is None else datetime.fromtimestamp(column.time_ms / 1000, UTC)
        rows.append(
            (
                1 if version is None else numbers[version],
                field.name,
                str(field.type),
                field.name in definition.columns,
                version,
                None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
        )
    kinds = {
        "schema": pl.Int64,
        "column": pl.String,
        "type": pl.String,
        "declared": pl.Boolean,
        "version": pl.Int64,
        "time": pl.String,
    }
    write_frame(session, pl.DataFrame(rows, schema=kinds, orient="row"), format)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(schema, name="schema", rich_help_panel="Read")
