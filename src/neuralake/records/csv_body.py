"""CSV text as tables of the declared schema, a piece at a time.

The first line names the columns, in any order; those that it leaves out are null. Values are read
by `csv_text`, as strict as JSON. A field that is empty and not quoted is null; `""` is empty text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pcsv

from neuralake.errors import InvalidRows, SchemaMismatch, TooLarge, suggestion
from neuralake.records.csv_text import typed_column

__all__ = ["csv_table", "csv_tables"]

_BLOCK_BYTES = 4 * 1024 * 1024
_ROW = re.compile(r"Row #(\d+): ")


def csv_table(
    body: bytes, schema: pa.Schema, *, name: str, delimiter: str, rows_max: int
) -> pa.Table:
    """The rows of `body`, a CSV text with a header line.

    Raises:
        TooLarge: more than `rows_max` rows.
        SchemaMismatch, InvalidRows: a column or value does not fit the schema.
    """
    tables, rows = [schema.empty_table()], 0
    for table in csv_tables(BytesIO(body), schema, name=name, delimiter=delimiter):
        tables.append(table)
        rows += table.num_rows
        if rows > rows_max:
            raise TooLarge(
                f"The body has {rows} rows or more; the limit is {rows_max}. Send it in parts.",
                limit=rows_max,
                found=rows,
                unit="rows",
            )
    return pa.concat_tables(tables)


def csv_tables(
    file: BinaryIO,
    schema: pa.Schema,
    *,
    name: str,
    delimiter: str = ",",
    null_values: Sequence[str] = ("",),
) -> Iterator[pa.Table]:
    """The rows of `file` in order, some megabytes at a time.

    Args:
        name: of the table, for errors.
        null_values: texts that mean null, where they are not quoted.

    Raises:
        SchemaMismatch, InvalidRows: a column or value does not fit the schema.
    """
    first_row = 0
    try:
        with pcsv.open_csv(
            file,
            read_options=pcsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pcsv.ConvertOptions(
                column_types={field.name: pa.string() for field in schema},
                null_values=list(null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ) as source:
            _check_header(source.schema.names, schema, name)
            for batch in source:
                yield _typed(batch, schema, first_row, name)
                first_row += batch.num_rows
    except pa.ArrowInvalid as error:
        raise _unreadable_csv(str(error).splitlines()[0], first_row) from error


def _unreadable_csv(said: str, first_row: int) -> InvalidRows:
    if match := _ROW.search(said):
        row = int(match[1]) - 2  # Arrow counts from 1, and the header too.
        reason = said[match.end() :]
        return InvalidRows(
            f"Row {row} cannot be read as CSV: {reason}.", row=row, column=None, reason=reason
        )
    return InvalidRows(
        f"The CSV cannot be read from row {first_row} on: {said}.",
        row=None,
        column=None,
        reason=said,
    )


def _typed(batch: pa.RecordBatch, schema: pa.Schema, first_row: int, name: str) -> pa.Table:
    columns = [
        typed_column(
            batch[field.name]
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, pa.string()),
            field,
            first_row=first_row,
            name=name,
        )
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _check_header(names: list[str], schema: pa.Schema, name: str) -> None:
    for column in names:
        if column not in schema.names:
            raise SchemaMismatch(
                f"{name!r} has no column {column!r}.{suggestion(column, schema.names)} "
                f"Its columns: {', '.join(schema.names)}.",
                column=column,
                known=schema.names,
            )
        if names.count(column) > 1:
            raise SchemaMismatch(f"Column {column!r} appears twice.", column=column)
