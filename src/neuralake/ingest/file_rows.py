"""Read a file as rows of the declared schema, a piece at a time.

Values are exactly what the HTTP API makes of the same file's text. Errors name the row, counted
from 0 over the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from neuralake.errors import InvalidRows, SchemaMismatch, UnsupportedMedia, UsageError, suggestion
from neuralake.records.csv_text import typed_column
from neuralake.records.json_body import JsonReader
from neuralake.schema import conform

__all__ = ["FORMATS", "format_of", "read_tables"]

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
}
"""File name endings that we read, and the format of each."""

_BLOCK_BYTES = 4 * 1024 * 1024
_ROWS_UNBOUNDED = 2**62
_CSV_ROW = re.compile(r"Row #(\d+): ")


def format_of(path: Path) -> str:
    """The format by the ending of the name.

    Raises:
        UnsupportedMedia: an ending that we do not know.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise UnsupportedMedia(
            f"{str(path)!r} is not a file that we read by its name. Known endings: "
            f"{', '.join(FORMATS)}.",
            found=path.suffix,
            known=list(FORMATS),
        )
    return found


def read_tables(
    path: Path, schema: pa.Schema, *, name: str, null_values: Sequence[str] = ("",)
) -> Iterator[tuple[pa.Table, int]]:
    """The rows of `path` in order, each time with how many bytes of the file were read for them.

    Args:
        name: of the table, for errors.
        null_values: texts of CSV fields that mean null, where they are not quoted.

    Raises:
        UsageError: the file cannot be read as its format.
        SchemaMismatch, InvalidRows: a column or value does not fit the schema.
    """
    kind = format_of(path)
    with _open(path) as file:
        if kind == "parquet":
            tables = _parquet(file, schema, name)
        elif kind == "ndjson":
            tables = _ndjson(file, schema, name)
        else:
            tables = _csv(file, schema, name, null_values, "\t" if kind == "tsv" else ",")
        for table in tables:
            yield table, file.tell()


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.", path=str(path)) from error


def _parquet(file: BinaryIO, schema: pa.Schema, name: str) -> Iterator[pa.Table]:
    first_row = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches():
            yield _conformed(batch, schema, first_row, name)
            first_row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"The file is not readable as Parquet: {said}.", reason=said) from error


def _conformed(batch: pa.RecordBatch, schema: pa.Schema, first_row: int, name: str) -> pa.Table:
    try:
        return conform(pa.Table.from_batches([batch]), schema, name=name)
    except SchemaMismatch as error:
        if first_row and error.facts.get("row") is not None:
            facts = error.facts | {"row": first_row + error.facts["row"]}
            raise SchemaMismatch(f"From row {first_row} on: {error.message}", **facts) from error
        raise


def _ndjson(file: BinaryIO, schema: pa.Schema, name: str) -> Iterator[pa.Table]:
    reader = JsonReader(schema, name=name, rows_max=_ROWS_UNBOUNDED)
    first_row = 0
    while block := file.read(_BLOCK_BYTES):
        # To the end of the line: an object of several lines may still be cut, and is refused.
        table = reader.lines(block + file.readline(), first_row=first_row)
        first_row += table.num_rows
        yield table


def _csv(
    file: BinaryIO, schema: pa.Schema, name: str, null_values: Sequence[str], delimiter: str
) -> Iterator[pa.Table]:
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
    if match := _CSV_ROW.search(said):
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
