"""The line of a text file on which a row begins, for people who look for it with an editor."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from neuralake.ingest.file_rows import format_of

__all__ = ["line_of_row"]


def line_of_row(path: Path, row: int) -> int | None:
    """The line (from 1) on which row `row` (from 0) of `path` begins; None if that is not sure.

    It reads the file from the beginning: for errors only.
    """
    kind = format_of(path)
    if kind == "parquet":
        return None
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            if kind == "ndjson":
                lines = _objects(file)
            else:
                lines = _records(file, "\t" if kind == "tsv" else ",")
                next(lines, None)  # The header.
            return next((line for number, line in enumerate(lines) if number == row), None)
    except (OSError, csv.Error):
        return None


def _records(file: TextIO, delimiter: str) -> Iterator[int]:
    reader = csv.reader(file, delimiter=delimiter)
    begun = 1
    for fields in reader:
        if fields:  # Empty lines are no rows.
            yield begun
        begun = reader.line_num + 1


def _objects(file: TextIO) -> Iterator[int]:
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text:
            continue
        yield number
        if not (text.startswith("{") and text.endswith("}")):
            return  # An object of several lines: from here on we would only guess.
