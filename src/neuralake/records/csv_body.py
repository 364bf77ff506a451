"""CSV text as tables of the declared schema, a piece at a time.

The first line names the columns, in any order; those that it leaves out are null. Values are read
by `csv_text`, as strict as JSON. A field that is empty and not quoted is null; `""` is empty text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO, TextIOWrapper
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pcsv

from neuralake.errors import InvalidRows, SchemaMismatch, UsageError, suggestion
from neuralake.records.csv_text import typed_column
from neuralake.records.dropped import Dropped
from neuralake.records.evolve import brought
from neuralake.records.row_limit import RowLimit
from neuralake.records.salvage import Pieces

__all__ = ["csv_new_columns", "csv_pieces", "csv_table", "csv_tables"]

_BLOCK_BYTES = 4 * 1024 * 1024
_ROW = re.compile(r"Row #(\d+): ")


def csv_table(
    body: bytes,
    schema: pa.Schema,
    *,
    name: str,
    delimiter: str,
    limit: RowLimit,
    drops: bool = False,
    dropped: Dropped | None = None,
    ignores_null: bool = False,
) -> pa.Table:
    """The rows of `body`, a CSV text with a header line.

    Args:
        drops: columns that the schema has not are left out, and `dropped` counts them.
        ignores_null: those that hold nothing are left out.

    Raises:
        TooLarge: more than `limit`.
        SchemaMismatch, InvalidRows: a column or value does not fit the schema.
    """
    empty = _unknown(body, schema, delimiter) if ignores_null else []
    tables = csv_tables(
        BytesIO(body),
        schema,
        name=name,
        delimiter=delimiter,
        drops=drops,
        dropped=dropped,
        empty=empty,
        limit=limit,
    )
    return pa.concat_tables([schema.empty_table(), *tables])


def csv_tables(
    file: BinaryIO,
    schema: pa.Schema,
    *,
    name: str,
    delimiter: str = ",",
    null_values: Sequence[str] = ("",),
    drops: bool = False,
    dropped: Dropped | None = None,
    empty: Sequence[str] = (),
    limit: RowLimit | None = None,
) -> Iterator[pa.Table]:
    """The rows of `file` in order, some megabytes at a time.

    Args:
        name: of the table, for errors.
        null_values: texts that mean null, where they are not quoted.
        empty: columns that the schema has not, and that may be there without values.
        limit: of all rows, looked at before columns that are left out are filled.

    Raises:
        TooLarge: more than `limit`.
        SchemaMismatch, InvalidRows: a column or value does not fit the schema.
    """
    first_row = 0
    try:
        with pcsv.open_csv(
            file,
            read_options=pcsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pcsv.ConvertOptions(
                column_types=dict.fromkeys([*schema.names, *empty], pa.string()),
                null_values=list(null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ) as source:
            unknown = _check_header(source.schema.names, schema, name, drops=drops, empty=empty)
            for batch in source:
                if limit is not None:
                    limit.check(first_row + batch.num_rows)
                _check_empty(batch, empty, schema, name)
                if dropped is not None:
                    dropped.add(unknown, batch.num_rows)
                yield _typed(batch, schema, first_row, name)
                first_row += batch.num_rows
    except UnicodeDecodeError as error:
        raise _unreadable_csv("the names in the header are not UTF-8", first_row) from error
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


def csv_new_columns(body: bytes, schema: pa.Schema, delimiter: str) -> dict[str, pa.DataType]:
    """The columns of `body` that `schema` has not and that have a value: all of them are texts.

    None of what cannot be read, which the reader tells.
    """
    if not (names := _unknown(body, schema, delimiter)):
        return {}
    try:
        found = pcsv.read_csv(
            BytesIO(body),
            read_options=pcsv.ReadOptions(use_threads=False),
            parse_options=pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pcsv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (UnicodeDecodeError, pa.ArrowException):
        return {}
    return brought(found, ())


def _unknown(body: bytes, schema: pa.Schema, delimiter: str) -> list[str]:
    """The names of the header that `schema` has not; none if there is no header to read."""
    text = TextIOWrapper(BytesIO(body), "utf-8-sig", newline="")
    try:
        names = next(csv.reader(text, delimiter=delimiter), [])
    except (csv.Error, UnicodeDecodeError):
        return []
    return [column for column in dict.fromkeys(names) if column not in schema.names]


def _check_empty(batch: pa.RecordBatch, empty: Sequence[str], schema: pa.Schema, name: str) -> None:
    for column in empty:
        if column in batch.schema.names and batch[column].null_count < batch.num_rows:
            raise _no_column(column, schema, name)


def _no_column(column: str, schema: pa.Schema, name: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"{name!r} has no column {column!r}.{suggestion(column, schema.names)} "
        f"Its columns: {', '.join(schema.names)}.",
        column=column,
        known=schema.names,
    )


def _check_header(
    names: list[str], schema: pa.Schema, name: str, *, drops: bool, empty: Sequence[str]
) -> list[str]:
    """The columns that are not in `schema`; SchemaMismatch unless they may be there."""
    for column in names:
        if column not in schema.names and column not in empty and not drops:
            raise _no_column(column, schema, name)
        if names.count(column) > 1:
            raise SchemaMismatch(f"Column {column!r} appears twice.", column=column)
    return [column for column in names if column not in schema.names]


class _Records:
    """Rows as CSV records; each is told with its header, so that it can be read alone."""

    def __init__(
        self, header: bytes, records: list[bytes], read: Callable[..., pa.Table], form: str
    ) -> None:
        self._header, self._records, self._read = header, records, read
        self.format = form

    def __len__(self) -> int:
        return len(self._records)

    def table(self, first: int, end: int, dropped: Dropped) -> pa.Table:
        body = b"".join([self._header, *self._records[first:end]])
        table = self._read(body, dropped=dropped)
        if table.num_rows != end - first:
            raise InvalidRows(f"Row {first} is not one record of CSV.", row=first)
        return table

    def raw(self, index: int) -> bytes:
        return self._header + self._records[index]


def csv_pieces(
    body: bytes, read: Callable[..., pa.Table], delimiter: str, form: str
) -> Pieces | None:
    """The records of `body`; None if it cannot be taken apart, or its header does not fit.

    Args:
        read: what reads a body with a header, as `csv_table`.
        form: `csv` or `tsv`.
    """
    lines = [line + b"\n" for line in body.split(b"\n")]
    records, begin = [], 0
    # Bytes as characters: what is no UTF-8 is the reader's to tell.
    reader = csv.reader((line.decode("latin-1") for line in lines), delimiter=delimiter)
    try:
        for record in reader:
            if record:  # Empty lines are no rows.
                records.append(b"".join(lines[begin : reader.line_num]))
            begin = reader.line_num
        if not records:
            return None
        read(records[0])
    except (csv.Error, UsageError):
        return None
    return _Records(records[0], records[1:], read, form)
