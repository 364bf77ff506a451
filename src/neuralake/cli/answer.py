"""Rows as a command writes them: a table for people, JSON lines or CSV for programs.

Values are spelled as the server spells them (docs/types.md): `query` gives the same texts on the
terminal as over HTTP. Only the table for people differs: lists and structs are JSON, `-` is null,
yes and no are Booleans, and a timestamp is written with a space.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from neuralake.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from neuralake.cli.session import Session

__all__ = ["Format", "write_answer", "write_frame"]


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def write_frame(session: Session, rows: pl.DataFrame, format: Format) -> None:
    """Rows that a command made itself: texts, numbers and Booleans."""
    numeric = [kind.is_numeric() for kind in rows.schema.values()]
    _write(session, rows.columns, [list(column) for column in rows], numeric, format)


def write_answer(session: Session, rows: pa.Table, format: Format) -> None:
    """The answer to a query.

    Raises:
        UsageError: JSON is asked for, and two columns have one name.
    """
    import pyarrow as pa

    from neuralake.serve.plain import json_columns

    columns: list[list[Any]] = [[] for _ in rows.schema]
    for batch in rows.to_batches():
        for column, values in zip(columns, json_columns(batch), strict=True):
            column.extend(values)
    if format is Format.TABLE:
        for column, kind in zip(columns, rows.schema.types, strict=True):
            if pa.types.is_timestamp(kind):
                column[:] = [value and _for_people(value) for value in column]
    numeric = [
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        for kind in rows.schema.types
    ]
    _write(session, rows.schema.names, columns, numeric, format)


def _for_people(instant: str) -> str:
    """`2026-01-01 07:30:00+00:00` of `2026-01-01T07:30:00.000000Z`."""
    text, has_zone = instant.removesuffix("Z"), instant.endswith("Z")
    whole, _, fraction = text.replace("T", " ").partition(".")
    fraction = "." + fraction if fraction.strip("0") else ""
    return whole + fraction + ("+00:00" if has_zone else "")


def _write(
    session: Session,
    names: list[str],
    columns: list[list[Any]],
    numeric: list[bool],
    format: Format,
) -> None:
    from neuralake.cli.terminal import printable

    def put(text: str) -> None:
        # JSON escapes control characters but for a few, which older terminals obey as well.
        session.out.file.write((printable(text) if session.out.is_terminal else text) + "\n")

    if format is Format.CSV:
        put(",".join(_csv_cell(name) for name in names))
        for cells in zip(*columns, strict=True):
            put(",".join(_csv_cell(cell) for cell in cells))
    elif format is Format.JSON:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"Two columns are called {twice!r}, which one JSON object cannot hold. "
                f"Name them apart with AS."
            )
        for cells in zip(*columns, strict=True):
            put(_json(dict(zip(names, cells, strict=True))))
    else:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, is_number in zip(names, numeric, strict=True):
            table.add_column(escape(name), justify="right" if is_number else "left")
        for cells in zip(*columns, strict=True):
            table.add_row(*[_table_cell(cell) for cell in cells])
        # Into a file or a pipe, lines are as long as they are.
        session.out.print(table, width=None if session.out.is_terminal else 10_000)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _table_cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "[dim]-[/dim]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(_json(value) if isinstance(value, (list, dict)) else str(value))


def _csv_cell(value: Any) -> str:
    """Nothing is null, and `""` the empty text."""
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = str(value)
    if isinstance(value, str) and (text == "" or any(mark in text for mark in '",\r\n')):
        return '"' + text.replace('"', '""') + '"'
    return text
