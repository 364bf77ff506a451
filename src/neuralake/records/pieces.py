"""Bodies taken apart into rows, for `salvage`: what cannot be taken apart gives None.

JSON: the elements of an array. NDJSON: objects one after another, as always; if the body cannot be
read so, each line is a row. Arrow: the rows of a stream whose columns fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.errors import InvalidRows, UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.records.dropped import Dropped
from neuralake.records.json_body import JsonReader
from neuralake.records.salvage import Pieces
from neuralake.records.scalars import Misfit, parse_json

__all__ = ["array_pieces", "arrow_pieces", "json_values", "line_pieces"]

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_TEXTS = msgspec.json.Decoder(msgspec.Raw)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class _Texts:
    """Rows as JSON texts, one an element."""

    format = "json"

    def __init__(self, reader: JsonReader, texts: Sequence[bytes]) -> None:
        self._reader, self._texts = reader, texts

    def __len__(self) -> int:
        return len(self._texts)

    def table(self, first: int, end: int, dropped: Dropped) -> pa.Table:
        joined = b"\n".join(self._texts[first:end])
        table = self._reader.lines(joined, first_row=first, dropped=dropped)
        if table.num_rows != end - first:
            raise InvalidRows(f"Row {first} is not one JSON object.", row=first)
        return table

    def raw(self, index: int) -> bytes:
        return self._texts[index]


class _ArrowRows:
    """Rows of an Arrow table that is not conformed yet."""

    format = "arrow"

    def __init__(self, reader: ArrowReader, rows: pa.Table) -> None:
        self._reader, self._rows = reader, rows

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def table(self, first: int, end: int, dropped: Dropped) -> pa.Table:
        return self._reader.fitted(self._rows.slice(first, end - first), dropped=dropped)

    def raw(self, index: int) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._rows.schema) as writer:
            writer.write_table(self._rows.slice(index, 1))
        return bytes(sink.getvalue())


def array_pieces(body: bytes, reader: JsonReader) -> Pieces | None:
    """The elements of the array that `body` is; None if it is none."""
    try:
        raws = _ARRAY.decode(body.removeprefix(_BOM))
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return _Texts(reader, [bytes(raw) for raw in raws])


def line_pieces(body: bytes, reader: JsonReader) -> Pieces:
    """The objects in `body`, or its lines if it is not objects one after another."""
    body = body.removeprefix(_BOM)
    try:
        texts = [bytes(raw) for raw in _TEXTS.decode_lines(body)]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        texts = [line for line in map(_stripped, body.split(b"\n")) if line]
    return _Texts(reader, texts)


def arrow_pieces(body: bytes, reader: ArrowReader) -> Pieces | None:
    """The rows of the stream `body`; None if it is damaged, or its columns are not the table's."""
    try:
        rows = reader.table(body)
        reader.fitted(rows.slice(0, 0))
    except UsageError:
        return None
    return _ArrowRows(reader, rows)


def json_values(pieces: Pieces) -> Iterator[Any]:
    """The values of pieces of JSON, as `scalars.parse_json` reads them, but those that are none."""
    for index in range(len(pieces)):
        try:
            yield parse_json(pieces.raw(index).decode())[0]
        except (Misfit, UnicodeDecodeError):
            continue


def _stripped(line: bytes) -> bytes:
    return line.strip(_SPACE)
