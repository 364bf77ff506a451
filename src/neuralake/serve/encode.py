"""Answers as bytes: JSON, CSV (RFC 4180) and Arrow IPC streams, batch by batch.

An encoder is told the schema, then batches, then how it ended; each call gives the bytes that are
ready. All three hold every value without loss; how JSON and CSV spell them is in
`neuralake.serve.plain`. In CSV nothing between two commas is null and `""` is the empty string;
lists and structs are JSON texts.
"""

from __future__ import annotations

import io
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.serve.messages import Format
from neuralake.serve.plain import json_columns

__all__ = ["MEDIA_TYPES", "Encoder", "encoder"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "arrow": "application/vnd.apache.arrow.stream",
}


class Encoder(Protocol):
    def start(self, schema: pa.Schema) -> bytes: ...
    def batch(self, rows: pa.RecordBatch) -> bytes: ...
    def end(self, facts: dict[str, Any]) -> bytes:
        """`facts`: `truncated`, `elapsed_ms`, `versions`; only JSON has a place for them."""


def encoder(form: Format) -> Encoder:
    """A new encoder for one answer."""
    made: dict[Format, type[Encoder]] = {"json": _Json, "csv": _Csv, "arrow": _Arrow}
    return made[form]()


class _Json:
    def __init__(self) -> None:
        self._json = msgspec.json.Encoder()
        self._has_rows = False

    def start(self, schema: pa.Schema) -> bytes:
        columns = [{"name": field.name, "type": str(field.type)} for field in schema]
        return b'{"columns":' + self._json.encode(columns) + b',"rows":['

    def batch(self, rows: pa.RecordBatch) -> bytes:
        if rows.num_rows == 0:
            return b""
        columns = json_columns(rows)
        listed = list(zip(*columns, strict=True)) if columns else [()] * rows.num_rows
        text = self._json.encode(listed)[1:-1]
        comma = b"," if self._has_rows else b""
        self._has_rows = True
        return comma + text

    def end(self, facts: dict[str, Any]) -> bytes:
        return b"]," + self._json.encode(facts)[1:] + b"\n"


class _Csv:
    def start(self, schema: pa.Schema) -> bytes:
        return _line([_quoted_text(name) for name in schema.names])

    def batch(self, rows: pa.RecordBatch) -> bytes:
        if rows.num_rows == 0 or rows.num_columns == 0:
            return b""
        cells = [pc.fill_null(_cells(column), "") for column in rows.columns]
        lines = pc.binary_join_element_wise(*cells, ",") if len(cells) > 1 else cells[0]
        return ("\r\n".join(lines.to_pylist()) + "\r\n").encode("utf-8")

    def end(self, facts: dict[str, Any]) -> bytes:  # noqa: ARG002 CSV has no place for them
        return b""


class _Arrow:
    def __init__(self) -> None:
        self._parts = _Parts()

    def start(self, schema: pa.Schema) -> bytes:
        self._stream = pa.ipc.new_stream(self._parts, schema)
        return self._parts.take()

    def batch(self, rows: pa.RecordBatch) -> bytes:
        self._stream.write_batch(rows)
        return self._parts.take()

    def end(self, facts: dict[str, Any]) -> bytes:  # noqa: ARG002 the stream ends with its mark
        self._stream.close()
        return self._parts.take()


class _Parts(io.RawIOBase):
    """A file that holds what was written since the last `take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        return len(self._parts[-1])

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _line(cells: list[str]) -> bytes:
    return (",".join(cells) + "\r\n").encode("utf-8")


def _quoted_text(text: str) -> str:
    if text == "" or any(mark in text for mark in '",\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _cells(column: pa.Array) -> pa.Array:
    """`column` as CSV cells, null where null."""
    types = pa.types
    if types.is_string(column.type):
        return _quoted(column)
    if types.is_integer(column.type) or types.is_boolean(column.type):
        return column.cast(pa.string())
    if types.is_nested(column.type):
        values = json_columns(pa.RecordBatch.from_arrays([column], ["c"]))[0]
        texts = [None if value is None else msgspec.json.encode(value).decode() for value in values]
        return _quoted(pa.array(texts, pa.string()))
    values = json_columns(pa.RecordBatch.from_arrays([column], ["c"]))[0]
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _quoted(column: pa.Array) -> pa.Array:
    needs = pc.or_(pc.match_substring_regex(column, '[",\r\n]'), pc.equal(column, ""))
    if not pc.any(needs).as_py():
        return column
    doubled = pc.replace_substring(column, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise('"', doubled, '"', ""), column)
