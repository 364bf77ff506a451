"""A JSON body becomes rows: one object, an array of objects, or objects one after another.

Bodies are read in blocks, so that the interpreter lock is never held for long and one odd row
makes only its own block slow. Rows are counted from 0 over the whole body; empty lines and the
line breaks inside an object do not count.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.records.columns import AnyObject, ColumnReader
from neuralake.records.dropped import Dropped
from neuralake.records.row_limit import RowLimit
from neuralake.records.rows import Row, RowReader, malformed
from neuralake.records.scalars import Misfit, after_space, parse_json

__all__ = ["BLOCK_BYTES", "NDJSON", "SMALL_BYTES", "JsonReader"]

NDJSON = "application/x-ndjson"
_BOM = b"\xef\xbb\xbf"
# One block takes about 4 ms under the interpreter lock and 10 ms without it.
BLOCK_BYTES = 1024 * 1024
"""Larger bodies are read in blocks of so many bytes, up to the next line break."""
_BLOCK_ROWS = 4096
# Below this the exact path is quicker: pyarrow's parser costs 100 us to start.
SMALL_BYTES = 4096
"""Bodies up to here are read row by row."""


class JsonReader:
    """Reads JSON and NDJSON bodies of one table. Use it from any thread."""

    def __init__(
        self,
        schema: pa.Schema,
        *,
        name: str,
        rows_max: int,
        cells_max: int = sys.maxsize,
        block_bytes: int = BLOCK_BYTES,
        small_bytes: int = SMALL_BYTES,
        drops: bool = False,
        loose: Collection[str] = (),
        ignores_null: bool = False,
    ) -> None:
        """`block_bytes` and `small_bytes` change the speed only; the others as `RowReader`'s."""
        self._schema = schema
        self._limit = RowLimit.of(schema, rows_max=rows_max, cells_max=cells_max)
        self._block_bytes = block_bytes
        self._small_bytes = small_bytes
        self._exact = RowReader(
            schema, name=name, drops=drops, loose=loose, ignores_null=ignores_null
        )
        self._fast = ColumnReader(schema, drops=drops)
        self._texts = msgspec.json.Decoder(msgspec.Raw)
        self._objects = msgspec.json.Decoder(AnyObject)
        self._array = msgspec.json.Decoder(list[msgspec.Raw])

    def document(self, body: bytes, *, dropped: Dropped | None = None) -> pa.Table:
        """The rows of `body`: one JSON object, or an array of objects.

        Args:
            dropped: counts the columns that are left out; so everywhere below.

        Raises:
            InvalidRows, UsageError: as `RowReader.table`.
            TooLarge: more than the limit.
        """
        body = _text(body)
        try:
            raws = self._array.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            values = _document_values(body.decode())
            self._limit.check(len(values))
            return self._exact.values(values, dropped=dropped)
        self._limit.check(len(raws))
        return self._concat(self._array_blocks(raws, dropped))

    def lines(self, body: bytes, *, first_row: int = 0, dropped: Dropped | None = None) -> pa.Table:
        """The rows of `body`: JSON objects one after another, usually one a line.

        Args:
            first_row: the number of the first row in errors.

        Raises:
            InvalidRows, UsageError: as `RowReader.table`.
            TooLarge: more than the limit.
        """
        return self._concat(self._line_blocks(_text(body), first_row, dropped))

    def few(self, body: bytes, *, lines: bool, dropped: Dropped | None = None) -> list[Row]:
        """The rows of a small `body` one by one, read as `lines` or `document` reads it."""
        text = _text(body).decode()
        values = _values(text) if lines else _document_values(text)
        rows: list[Row] = []
        for row, value in enumerate(values):
            self._limit.check(row + 1)
            rows.append(self._exact.row(value, row, dropped=dropped))
        return rows

    def count(self, body: bytes, *, lines: bool) -> int | None:
        """How many objects `body` is, each of them whole; None: only `few` can tell.

        Bodies that were counted may be joined by line breaks, and the rows of each are known.
        """
        try:
            if lines:
                return len(self._objects.decode_lines(body)) or None
            self._objects.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            return None
        return 1

    def joined(self, bodies: Sequence[bytes], *, dropped: Dropped | None = None) -> pa.Table | None:
        """The rows of bodies that `count` has counted; None: ask `few` for each."""
        return self._fast.read(b"\n".join(bodies), dropped=dropped)

    def table(self, rows: Sequence[Row]) -> pa.Table:
        """Rows of `few`, of any number of bodies, as one table."""
        return self._exact.table(rows)

    def rows(self, values: Sequence[Any], *, dropped: Dropped | None = None) -> pa.Table:
        """The rows of values that are parsed already, as `scalars.parse_json` does it.

        Raises:
            InvalidRows: as `RowReader.table`.
        """
        return self._exact.values(values, dropped=dropped)

    def _array_blocks(
        self, raws: Sequence[msgspec.Raw], dropped: Dropped | None
    ) -> Iterator[pa.Table]:
        for first in range(0, len(raws), _BLOCK_ROWS):
            block = raws[first : first + _BLOCK_ROWS]
            joined = b"\n".join(block)
            table = self._quick(joined, dropped)
            if table is None:
                table = self._exact.texts(_decoded(block), first_row=first, dropped=dropped)
            yield table

    def _quick(self, block: bytes, dropped: Dropped | None) -> pa.Table | None:
        if len(block) <= self._small_bytes:
            return None
        return self._fast.read(block, dropped=dropped)

    def _line_blocks(
        self, body: bytes, first_row: int, dropped: Dropped | None
    ) -> Iterator[pa.Table]:
        first, start = first_row, 0
        while start < len(body):
            end = body.find(b"\n", start + self._block_bytes) + 1 or len(body)
            block = body[start:end]
            self._check_lines(block, first - first_row)
            table = self._quick(block, dropped)
            if table is None:
                raws = self._split(block)
                if raws is None:
                    # The cut went through an object of several lines, or the text is not JSON:
                    # only the rest of the body as a whole tells.
                    block, end = body[start:], len(body)
                    raws = self._split(block)
                if raws is None:
                    table = self._exact.stream(
                        block.decode(),
                        first_row=first,
                        dropped=dropped,
                        check=lambda row: self._limit.check(row + 1 - first_row),
                    )
                else:
                    self._limit.check(first - first_row + len(raws))
                    table = self._exact.texts(_decoded(raws), first_row=first, dropped=dropped)
            first, start = first + table.num_rows, end
            self._limit.check(first - first_row)
            yield table

    def _check_lines(self, block: bytes, rows_before: int) -> None:
        """Raise TooLarge before any row of `block` is made, if they are too many."""
        # No more rows than braces: few blocks are looked at a second time.
        if not self._limit.fits(rows_before + block.count(b"{")):
            raws = self._split(block)
            if raws is not None:  # Else they are counted one by one.
                self._limit.check(rows_before + len(raws))

    def _split(self, block: bytes) -> list[msgspec.Raw] | None:
        try:
            return self._texts.decode_lines(block)
        except (msgspec.MsgspecError, RecursionError):
            return None

    def _concat(self, tables: Iterator[pa.Table]) -> pa.Table:
        return pa.concat_tables([self._schema.empty_table(), *tables])


def _document_values(text: str) -> list[Any]:
    try:
        value, end = parse_json(text)
        if end < len(text):
            raise Misfit(f"there is more after the JSON value, at character {end}; is it {NDJSON}?")
    except Misfit as misfit:
        raise malformed(misfit, row=None) from None
    return value if isinstance(value, list) else [value]


def _values(text: str) -> Iterator[Any]:
    at, row = after_space(text), 0
    while at < len(text):
        try:
            value, at = parse_json(text, at)
        except Misfit as misfit:
            raise malformed(misfit, row=row) from None
        yield value
        row += 1


def _decoded(raws: Sequence[msgspec.Raw]) -> Iterator[str]:
    return (str(memoryview(raw), "utf-8") for raw in raws)


def _text(body: bytes) -> bytes:
    """`body` without its byte order mark, known to be UTF-8."""
    if body.isascii():
        return body
    check = codecs.getincrementaldecoder("utf-8")()
    try:
        if len(body) <= SMALL_BYTES:
            body.decode()
            return body.removeprefix(_BOM)
        # In parts, so that the interpreter lock is given away in between.
        for at in range(0, len(body), BLOCK_BYTES):
            check.decode(body[at : at + BLOCK_BYTES])
        check.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The body is not UTF-8: {error.reason}.", reason=f"not UTF-8: {error.reason}"
        ) from None
    return body.removeprefix(_BOM)
