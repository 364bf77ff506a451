"""Read a file as rows of the declared schema, a piece at a time.

Values are exactly what the HTTP API makes of the same file's text. Errors name the row, counted
from 0 over the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from neuralake.errors import SchemaMismatch, UnsupportedMedia, UsageError
from neuralake.records.csv_body import csv_tables
from neuralake.records.json_body import JsonReader
from neuralake.schema import conform

__all__ = ["FORMATS", "check_readable", "format_of", "read_tables"]

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


def check_readable(path: Path) -> None:
    """Raise UnsupportedMedia or UsageError if `path` cannot be opened as a file of rows."""
    format_of(path)
    _open(path).close()


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
            delimiter = "\t" if kind == "tsv" else ","
            tables = csv_tables(
                file, schema, name=name, delimiter=delimiter, null_values=null_values
            )
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
