"""An Arrow IPC stream becomes rows of the declared schema; nothing in it is trusted.

The stream comes from outside: offsets may point anywhere, and a few bytes may claim to stand for
gigabytes. Every batch is validated in full before a value is looked at, and what would expand
(compressed buffers, dictionaries, views of one text many times) is refused or measured first.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import SchemaMismatch, TooLarge, UsageError
from neuralake.ingest.arrow_message import is_compressed
from neuralake.ingest.scalars import DAYS_MAX, DAYS_MIN, TIMESTAMP_US_MAX, TIMESTAMP_US_MIN
from neuralake.schema import conform

__all__ = ["ArrowReader"]


class ArrowReader:
    """Reads Arrow IPC bodies of one table. Use it from any thread."""

    def __init__(self, schema: pa.Schema, *, name: str, rows_max: int, bytes_max: int) -> None:
        self._schema = schema
        self._name = name
        self._rows_max = rows_max
        self._bytes_max = bytes_max

    def stream(self, body: bytes) -> pa.Table:
        """The rows of `body`, exactly in the declared schema.

        Raises:
            UsageError: not an Arrow IPC stream, damaged, or compressed.
            SchemaMismatch: as `schema.conform`; with `column` and, for values, `row`.
            TooLarge: more than `rows_max` rows, or more bytes than the limit once decoded.
        """
        _refuse_compressed(body)
        try:
            with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
                table = self._read(reader)
                table.schema.names  # noqa: B018 raises here, and not later, if a name is no UTF-8
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise _damaged(error) from error
        for column in table.columns:
            self._measure(column)
        return _checked(conform(table, self._schema, name=self._name), self._name)

    def _read(self, reader: pa.RecordBatchReader) -> pa.Table:
        batches, rows = [], 0
        for batch in reader:
            rows += batch.num_rows
            if rows > self._rows_max:
                raise TooLarge(
                    f"The body has more than {self._rows_max} rows; send it in parts.",
                    limit=self._rows_max,
                    found=rows,
                    unit="rows",
                )
            batch.validate(full=True)
            batches.append(batch)
        return pa.Table.from_batches(batches, schema=reader.schema)

    def _measure(self, column: pa.ChunkedArray) -> None:
        size = sum(_plain_bytes(chunk) for chunk in column.chunks)
        if size > self._bytes_max:
            raise TooLarge(
                f"A column of the body stands for {size} bytes; the limit is {self._bytes_max}.",
                limit=self._bytes_max,
                found=size,
            )


def _refuse_compressed(body: bytes) -> None:
    try:
        compressed = is_compressed(body)
    except ValueError as error:
        raise _damaged(error) from error
    if compressed:
        raise UsageError(
            "The Arrow stream has compressed buffers, which may expand without bound. Write it "
            "without compression.",
            reason="compressed buffers",
        )


def _damaged(error: BaseException) -> UsageError:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"The body is not a valid Arrow IPC stream: {said}.", reason="not an Arrow IPC stream"
    )


def _plain_bytes(array: pa.Array) -> int:
    """Upper bound of the bytes that `array` takes without dictionaries and views."""
    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        lengths = pc.max(pc.binary_length(array.dictionary)) if _is_bytes(kind.value_type) else None
        return len(array) * ((lengths.as_py() or 0) if lengths is not None else 8)
    if _is_bytes(kind):
        return int(pc.sum(pc.binary_length(array)).as_py() or 0)
    if types.is_list(kind) or types.is_large_list(kind):
        return _plain_bytes(array.flatten())
    if types.is_struct(kind):
        return sum(_plain_bytes(array.field(index)) for index in range(kind.num_fields))
    return int(array.nbytes)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )


def _checked(table: pa.Table, name: str) -> pa.Table:
    """`table`, if its values keep what JSON keeps too, at every depth."""
    for field in table.schema:
        for chunk in table[field.name].chunks:
            _check(chunk, field.name, name)
    return table


def _check(array: pa.Array, path: str, name: str) -> None:
    kind, types = array.type, pa.types
    if types.is_list(kind):
        _check_inner(array.flatten(), kind.value_field, f"{path}[]", name)
    elif types.is_struct(kind):
        valid = array.drop_null()
        for index, field in enumerate(kind):
            _check_inner(valid.field(index), field, f"{path}.{field.name}", name)
    elif types.is_timestamp(kind):
        _check_range(array.cast(pa.int64()), TIMESTAMP_US_MIN, TIMESTAMP_US_MAX, path, name)
    elif types.is_date(kind):
        _check_range(array.cast(pa.int32()), DAYS_MIN, DAYS_MAX, path, name)


def _check_inner(values: pa.Array, field: pa.Field, path: str, name: str) -> None:
    if values.null_count and not field.nullable:
        raise SchemaMismatch(
            f"Column {path!r} of {name!r} is not nullable, but the batch has a null in it.",
            column=path,
        )
    _check(values, path, name)


def _check_range(values: pa.Array, low: int, high: int, path: str, name: str) -> None:
    bounds = pc.min_max(values)
    if bounds["min"].is_valid and (bounds["min"].as_py() < low or bounds["max"].as_py() > high):
        reason = "a value is outside of the years 1 to 9999, which few readers can show"
        raise SchemaMismatch(f"Column {path!r} of {name!r}: {reason}.", column=path, reason=reason)
