"""Commands that look: `tables`, `show`, `query` and `check`. None of them changes anything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuralake.cli.answer import Format, write_answer, write_frame
from neuralake.cli.session import Session
from neuralake.errors import NeedsAttention, UnknownName, UsageError

if TYPE_CHECKING:
    from neuralake.catalog import Catalog
    from neuralake.tables import Definition

__all__ = ["add_to", "check", "find_definition", "query", "show", "tables"]


_Format = Annotated[Format, typer.Option("--format", "-f", help="How the answer is written.")]


def tables(context: typer.Context, format: _Format = Format.TABLE) -> None:
    """List the tables of the catalog."""
    import polars as pl

    session: Session = context.obj
    catalog = session.catalog
    rows = [_summary(catalog, database, found) for database, found in catalog.definitions()]
    if not rows:
        session.err.print("The catalog has no tables.")
    schema = ["table", "kind", "columns", "rows", "files", "version", "description"]
    write_frame(session, pl.DataFrame(rows, schema=schema, orient="row"), format)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="As database.table.")],
    format: _Format = Format.TABLE,
) -> None:
    """Show a table: what it is, its columns, and what is in its log."""
    import polars as pl

    session: Session = context.obj
    database, definition = find_definition(session.catalog, name)
    columns = pl.DataFrame(
        [
            (
                field.name,
                str(field.type),
                field.nullable,
                field.name in definition.partition_by,
                definition.docs_columns.get(field.name, ""),
            )
            for field in definition.schema or ()
        ],
        schema=["column", "type", "nullable", "partition", "description"],
        orient="row",
    )
    if format is not Format.TABLE:
        write_frame(session, columns, format)
        return
    for label, value in _facts(session.catalog, database, definition).items():
        session.out.print(f"[bold]{label:>13}[/bold]  ", end="")
        session.out.print(value, markup=False, soft_wrap=True)
    session.out.print()
    if columns.is_empty():
        session.out.print("Its columns are known when it is read.")
    else:
        write_frame(session, columns, format)


def query(
    context: typer.Context,
    sql: Annotated[
        str,
        typer.Argument(metavar="SQL", help="A SELECT; tables are database.table. - reads stdin."),
    ],
    format: _Format = Format.TABLE,
    live: Annotated[
        bool,
        typer.Option("--live", help="Also rows that are acknowledged and not committed yet."),
    ] = False,
) -> None:
    """Run SQL over the catalog's tables and write the answer.

    Read-only, with the limits of the `sql` settings. A large answer is cut at sql.rows_max, which
    is said on standard error.
    """
    session: Session = context.obj
    text = sys.stdin.read() if sql == "-" else sql
    from neuralake.serve.query import TRUNCATED
    from neuralake.serve.query import query as run_query

    answer = run_query(session.catalog, text, live=live)
    write_answer(session, answer, format)
    if (answer.schema.metadata or {}).get(TRUNCATED) == b"true":
        session.err.print(
            f"The answer is longer: it was cut at {answer.num_rows} rows (sql.rows_max).",
            soft_wrap=True,
        )


def check(context: typer.Context) -> None:
    """Check settings, catalog, queue, tables and disk: what is wrong, and what helps."""
    from rich.markup import escape

    from neuralake.cli.checkup import examine

    session: Session = context.obj
    wrong = 0
    for finding in examine(session):
        mark = {"ok": "[green]ok[/green]   ", "hint": "[yellow]hint[/yellow] "}.get(
            finding.grade, "[red]wrong[/red]"
        )
        wrong += finding.grade == "wrong"
        session.out.print(f"{mark} [bold]{escape(finding.about)}[/bold]: ", end="")
        session.out.print(finding.text, markup=False, soft_wrap=True)
    if wrong:
        raise NeedsAttention(f"{wrong} of the checks failed; see above.", wrong=wrong)


def find_definition(catalog: Catalog, name: str) -> tuple[str, Definition]:
    """`(database, definition)` of a table named `database.table`.

    Raises:
        UsageError: the name has no dot.
        UnknownName: there is no such database or table; with the nearest.
    """
    database, dot, table = name.partition(".")
    if not dot:
        homes = [
            f"{home}.{found.name}" for home, found in catalog.definitions() if found.name == name
        ]
        raise UsageError(
            f"{name!r} is not a full name; write database.table"
            + (f": {' or '.join(homes)}." if homes else f". There are: {_names(catalog)}."),
            name=name,
            known=homes,
        )
    return database, catalog.definition(database, table)


def _names(catalog: Catalog) -> str:
    return ", ".join(f"{database}.{found.name}" for database, found in catalog.definitions())


def _summary(catalog: Catalog, database: str, found: Definition) -> tuple[Any, ...]:
    log, _ = _log(catalog, found)
    first_line = found.description.split("\n", 1)[0]
    if found.deprecated is not None:
        first_line = f"(deprecated) {first_line}"
    return (
        f"{database}.{found.name}",
        found.kind,
        len(found.columns) or None,
        log.get("rows"),
        log.get("files"),
        log.get("version"),
        first_line,
    )


def _facts(catalog: Catalog, database: str, found: Definition) -> dict[str, str]:
    log, coordination = _log(catalog, found)
    stream = found.stream and (
        f"POST /v1/{database}/{found.name}, committed within "
        f"{found.stream.flush_ms_max or catalog.settings.writer.flush_ms_max} ms"
    )
    described = {
        "table": f"{database}.{found.name} ({found.kind})",
        "about": found.description,
        "deprecated": found.deprecated,
        "uri": catalog.uri_of(found) if found.uri else None,
        "owner": found.owner,
        "tags": ", ".join(found.tags),
        "input": found.data_input,
        "latency": found.latency_info,
        "stream": stream,
        "partitions": ", ".join(found.partition_by),
        "coordination": coordination,
        "log": ", ".join(f"{key} {value:,}" for key, value in log.items() if value is not None),
        "Python": f'catalog.db("{database}").table("{found.name}")',
        "SQL": f"SELECT * FROM {database}.{found.name} LIMIT 10",  # noqa: S608 shown, never run
    }
    if found.kind == "delta" and not log:
        described["log"] = "nothing is written yet"
    return {label: text for label, text in described.items() if text}


def _log(catalog: Catalog, found: Definition) -> tuple[dict[str, int | None], str | None]:
    """Version, rows, files and bytes of a Delta table by its log, and how its writers agree.

    Nothing if there is no table.
    """
    from neuralake import delta
    from neuralake.delta.coordination import COORDINATION

    if found.kind != "delta":
        return {}, None
    try:
        snapshot = delta.snapshot(catalog.store_of(found))
    except UnknownName:
        return {}, None
    files = snapshot.files
    log = {
        "version": snapshot.version,
        "rows": snapshot.rows,
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
    }
    return log, snapshot.state.metadata.configuration.get(COORDINATION)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (tables, show, query, check):
        app.command(rich_help_panel="Read")(command)
