"""Rows become parts of request bodies: bytes that can stand one after the other.

Records become lines of NDJSON, Arrow data the messages of an IPC stream. The body of a request is
the head of its form, the parts, and the tail: joining them decodes and encodes nothing, so that a
body has the same bytes however often, and by whichever release, it is put together again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from neuralake.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARROW", "NDJSON", "Form", "Part", "parts_of", "rows_of"]

NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
_ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# JSON has no word for these; the server reads the texts.
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


@dataclass(frozen=True, slots=True)
class Form:
    """What parts must have in common to stand in one body."""

    media_type: str
    head: bytes = b""
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one call of `send`."""

    form: Form
    content: bytes
    rows: int


_LINES = Form(NDJSON)


def parts_of(data: Any, *, rows_max: int, bytes_max: int) -> list[Part]:
    """`data` in parts of at most `rows_max` rows and about `bytes_max` bytes; empty for no rows.

    Args:
        data: a record (a mapping of column to value), several of them, or what speaks Arrow's C
            data interface: a table or batch of pyarrow, a frame of Polars or pandas.

    Raises:
        UsageError: it is neither, or a value has no form in JSON.
    """
    if isinstance(data, Mapping):
        return [*_lines([data], rows_max, bytes_max)]
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return [*_arrow(data, rows_max, bytes_max)]
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise UsageError(
            f"{type(data).__name__} are no rows. Send a dict, a list of dicts, an Arrow table or "
            f"batch, or a Polars or pandas frame (a LazyFrame: collect it first)."
        )
    return [*_lines(data, rows_max, bytes_max)]


def rows_of(form: Form, content: bytes) -> Any:
    """The rows of a part again: a list of records, or an Arrow table."""
    if form.media_type == NDJSON:
        return [msgspec.json.decode(line) for line in content.splitlines()]
    import pyarrow as pa

    return pa.ipc.open_stream(form.head + content + form.tail).read_all()


def _lines(records: Iterable[Any], rows_max: int, bytes_max: int) -> Iterator[Part]:
    lines: list[bytes] = []
    size = 0
    for record in records:
        if not isinstance(record, Mapping):
            raise UsageError(f"A record is a dict of column to value, not {type(record).__name__}.")
        line = _line(record)
        if lines and (len(lines) == rows_max or size + len(line) > bytes_max):
            yield Part(_LINES, b"".join(lines), len(lines))
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield Part(_LINES, b"".join(lines), len(lines))


def _line(record: Mapping[Any, Any]) -> bytes:
    try:
        line = msgspec.json.encode(record, enc_hook=_plain)
        # The encoder makes null of NaN and infinities, which would be another value.
        if b"null" in line and (spelt := _spelt(record)) is not record:
            line = msgspec.json.encode(spelt, enc_hook=_plain)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise UsageError(f"A record cannot be written as JSON: {error}") from error
    return line + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # Scalars and arrays of numpy.
        return _spelt(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON; send it as Arrow")


def _spelt(value: Any) -> Any:
    """`value` with texts for NaN and infinities; itself where there is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
    if isinstance(value, Mapping):
        spelt = {name: _spelt(inner) for name, inner in value.items()}
        return value if all(spelt[name] is value[name] for name in spelt) else spelt
    if isinstance(value, list | tuple):
        items = [_spelt(inner) for inner in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return value


def _arrow(data: Any, rows_max: int, bytes_max: int) -> Iterator[Part]:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtra("Arrow data needs pyarrow: pip install pyarrow", extra="") from error
    try:
        batch = isinstance(data, pa.RecordBatch) or not hasattr(data, "__arrow_c_stream__")
        table = pa.Table.from_batches([pa.record_batch(data)]) if batch else pa.table(data)
        table = _without_swelling(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"{type(data).__name__} is no table for Arrow: {error}") from error
    if not table.num_rows:
        return
    form = Form(ARROW, table.schema.serialize().to_pybytes(), _ARROW_END)
    count = max(1, -(-table.nbytes // bytes_max))
    step = min(rows_max, -(-table.num_rows // count))
    for chunk in table.combine_chunks().to_batches(max_chunksize=step):
        yield Part(form, chunk.serialize().to_pybytes(), chunk.num_rows)


def _without_swelling(table: pa.Table) -> pa.Table:
    """Plain columns for dictionaries and views: their messages do not stand alone, or carry what a
    slice no longer has."""
    import pyarrow as pa

    fields: Sequence[Any] = [field.remove_metadata() for field in table.schema]
    return table.cast(pa.schema([field.with_type(_wire_type(field.type)) for field in fields]))


def _wire_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _wire_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    return kind
