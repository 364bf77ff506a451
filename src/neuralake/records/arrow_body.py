"""An Arrow IPC stream becomes rows of the declared schema; nothing in it is trusted.

The stream comes from outside: offsets may point anywhere, and a few bytes may claim to stand for
gigabytes. Every batch is validated in full before a value is looked at, and what would expand
(compressed buffers, dictionaries, views of one text many times) is refused or measured first.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import SchemaMismatch, TooLarge, UsageError
from neuralake.records.arrow_message import look_through
from neuralake.records.dropped import Dropped
from neuralake.records.row_limit import leaves
from neuralake.records.scalars import DAYS_MAX, DAYS_MIN, TIMESTAMP_US_MAX, TIMESTAMP_US_MIN
from neuralake.schema import conform

__all__ = ["ArrowReader"]

# An empty batch has 150 bytes and takes 16 us to read, under the interpreter lock.
_MESSAGES_MAX = 16_384
# Each one makes the reader copy the dictionary as it is so far.
_DELTAS_MAX = 64
# A body stands for at most this many times its bytes (a text of 250 bytes by an index of one), but
# for so many bytes in any case. Else 32 KiB could stand for as much as the largest body does.
_RATIO_MAX = 256
_STANDS_FOR_BYTES = 4 * 1024 * 1024
# What is read in half a millisecond, whatever is in it.
_LIGHT_VALUES_MAX = 100_000
_LIGHT_MESSAGES_MAX = 16
# Ends each stream that says where it ends (section "IPC Streaming Format" of Arrow's format).
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ArrowReader:
    """Reads Arrow IPC bodies of one table. Use it from any thread."""

    def __init__(
        self,
        schema: pa.Schema,
        *,
        name: str,
        rows_max: int,
        bytes_max: int,
        drops: bool = False,
        ignores_null: bool = False,
    ) -> None:
        """`drops`: columns that the schema has not are left out, instead of being errors;
        `ignores_null`: those that hold nothing but null are.
        """
        self._drops, self._ignores_null = drops, ignores_null
        self._schema = schema
        self._name = name
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._leaves = sum(leaves(field.type) for field in schema)

    def stream(self, body: bytes, *, dropped: Dropped | None = None) -> pa.Table:
        """The rows of `body`, exactly in the declared schema.

        Args:
            dropped: counts the columns that are left out.

        Raises:
            UsageError: not an Arrow IPC stream, damaged, or compressed.
            SchemaMismatch: as `schema.conform`; with `column` and, for values, `row`.
            TooLarge: more than `rows_max` rows, or more bytes than the limit once decoded.
        """
        return self.fitted(self.table(body), dropped=dropped)

    def table(self, body: bytes) -> pa.Table:
        """What is in `body`, validated but with the columns that it has. Raises as `stream`."""
        _refuse_swelling(body)
        try:
            with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
                table = self._read(reader)
                table.schema.names  # noqa: B018 raises here, and not later, if a name is no UTF-8
            self._measure(table, min(self._bytes_max, _stands_for_max(body)))
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise _damaged(error) from error
        return table

    def is_light(self, body: bytes) -> bool:
        """Whether reading this small `body` is sure to take little time and memory.

        Not if it has dictionaries or views of texts, or many values for its bytes: nulls, and
        columns that it has not, take none.
        """
        try:
            found = look_through(body, count_max=_LIGHT_MESSAGES_MAX)
        except ValueError:
            return True  # Which is soon said.
        is_short = found.count <= _LIGHT_MESSAGES_MAX
        return (
            is_short
            and not found.dictionaries
            and not found.has_views
            and found.values <= _LIGHT_VALUES_MAX
            and found.longest * self._leaves <= _LIGHT_VALUES_MAX
        )

    def is_as_declared(self, body: bytes) -> bool:
        """Whether `body`, which `stream` has read, is just what would be written of its rows.

        It has the declared columns in their order, nothing else, and an end: so nothing behind its
        rows is taken for something of ours.
        """
        if not body.endswith(_END):
            return False
        with pa.ipc.open_stream(body) as reader:
            return bool(reader.schema.equals(self._schema, check_metadata=True))

    def fitted(self, table: pa.Table, *, dropped: Dropped | None = None) -> pa.Table:
        """Rows of `table` in the declared schema. Raises as `stream`."""
        if self._ignores_null:
            table = self._without_nulls(table)
        if self._drops:
            table = self._known(table, dropped)
        self._refuse_filling(table)
        try:
            return _checked(conform(table, self._schema, name=self._name), self._name)
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise _damaged(error) from error

    def _without_nulls(self, table: pa.Table) -> pa.Table:
        columns = zip(table.schema.names, table.columns, strict=True)
        kept = [
            index
            for index, (name, column) in enumerate(columns)
            if name in self._schema.names or column.null_count < len(column)
        ]
        return table.select(kept) if kept else table

    def _known(self, table: pa.Table, dropped: Dropped | None) -> pa.Table:
        names = table.schema.names
        kept = [index for index, name in enumerate(names) if name in self._schema.names]
        if len(kept) == len(names):
            return table
        if dropped is not None and table.num_rows:
            unknown = dict.fromkeys(name for name in names if name not in self._schema.names)
            dropped.add(unknown, table.num_rows)
        if not kept:  # A table without columns forgets how many rows it has.
            nothing = pa.nulls(table.num_rows)
            return pa.table({self._schema.names[0]: nothing})
        return table.select(kept)

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

    def _measure(self, table: pa.Table, bytes_max: int) -> None:
        size = sum(_plain_bytes(chunk) for column in table.columns for chunk in column.chunks)
        _refuse_large(size, bytes_max)

    def _refuse_filling(self, table: pa.Table) -> None:
        """What is null or missing has no bytes until it is made, nor have narrow types many."""
        size = 0
        for field in self._schema:
            if table.schema.names.count(field.name) != 1:
                size += table.num_rows * _null_bytes(field.type)
            else:
                size += sum(_made_bytes(chunk, field.type) for chunk in table[field.name].chunks)
        _refuse_large(size, self._bytes_max)


def _refuse_swelling(body: bytes) -> None:
    """Refuse what costs memory or time out of proportion to its bytes, before it is read."""
    try:
        found = look_through(body, count_max=_MESSAGES_MAX)
    except ValueError as error:
        raise _damaged(error) from error
    if found.is_compressed:
        raise UsageError(
            "The Arrow stream has compressed buffers, which may expand without bound. Write it "
            "without compression.",
            reason="compressed buffers",
        )
    if found.count > _MESSAGES_MAX:
        raise TooLarge(
            f"The Arrow stream has more than {_MESSAGES_MAX} messages; write larger batches.",
            limit=_MESSAGES_MAX,
            found=found.count,
            unit="messages",
        )
    if found.deltas > _DELTAS_MAX:
        raise TooLarge(
            f"The Arrow stream adds to its dictionaries {found.deltas} times; the limit is "
            f"{_DELTAS_MAX}. Write it without dictionary deltas.",
            limit=_DELTAS_MAX,
            found=found.deltas,
            unit="dictionary deltas",
        )


def _damaged(error: BaseException) -> UsageError:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"The body is not a valid Arrow IPC stream: {said}.", reason="not an Arrow IPC stream"
    )


def _stands_for_max(body: bytes) -> int:
    return max(_STANDS_FOR_BYTES, len(body) * _RATIO_MAX)


def _refuse_large(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise TooLarge(
            f"The body stands for {size} bytes; the limit is {bytes_max}. Send it in parts, with "
            f"plain columns.",
            limit=bytes_max,
            found=size,
            unit="bytes",
        )


def _made_bytes(array: pa.Array, kind: pa.DataType) -> int:
    """About what `array` takes as a `kind`, apart from texts."""
    found, types = array.type, pa.types
    if types.is_list(kind) and _is_list(found):
        return _null_bytes(kind) * len(array) + _made_bytes(array.flatten(), kind.value_type)
    if types.is_struct(kind) and types.is_struct(found):
        places = {field.name: index for index, field in enumerate(found)}
        return sum(
            _made_bytes(array.field(places[field.name]), field.type)
            if field.name in places
            else _null_bytes(field.type) * len(array)
            for field in kind
        )
    return _null_bytes(kind) * len(array)


def _null_bytes(kind: pa.DataType) -> int:
    """About what a null of this type takes."""
    if pa.types.is_struct(kind):
        return sum(_null_bytes(field.type) for field in kind)
    return 4 if pa.types.is_nested(kind) or _is_bytes(kind) else -(-kind.bit_width // 8)


def _plain_bytes(array: pa.Array) -> int:
    """Upper bound of the bytes that `array` takes without dictionaries and views."""
    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        return len(array) * _longest(array.dictionary)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return sum(_view_lengths(array))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        raise SchemaMismatch(
            "The batch has list views, which may stand for far more than they hold. Cast them to "
            "lists before sending.",
            column=None,
        )
    if _is_list(kind):
        return _plain_bytes(array.flatten())
    if types.is_struct(kind):
        return sum(_plain_bytes(array.field(index)) for index in range(kind.num_fields))
    return int(array.nbytes)


def _longest(values: pa.Array) -> int:
    """Upper bound of the bytes of one value."""
    kind, types = values.type, pa.types
    if types.is_nested(kind) or types.is_dictionary(kind):
        return _plain_bytes(values)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return max(_view_lengths(values), default=0)
    if _is_bytes(kind):
        return pc.max(pc.binary_length(values)).as_py() or 0
    return 16


def _view_lengths(array: pa.Array) -> Sequence[int]:
    """Lengths of texts: each view has 16 bytes, and the first four are its length."""
    views = array.buffers()[1]
    if views is None:
        return []
    lengths = memoryview(views).cast("B").cast("i").tolist()[::4]
    return lengths[array.offset : array.offset + len(array)]


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    is_text = types.is_string(kind) or types.is_large_string(kind)
    return bool(is_text or types.is_binary(kind) or types.is_large_binary(kind))


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
