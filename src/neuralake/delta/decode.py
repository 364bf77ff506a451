"""Data files back to rows: any engine's Parquet as the columns of the table.

Rows come in the order of the file, a few at a time, so that a file of any size needs little memory.
Physical variants become the table's types (INT96 and nanoseconds, dictionaries, large and view
layouts, text without its annotation), a column that the file lacks is null, and one that the table
lacks is left out, as are deleted rows. A value that the table's type cannot hold is an error, never
rounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuralake.delta.column_mapping import Columns, field_id
from neuralake.delta.old_calendar import is_of_old_calendar, refuse_old_values
from neuralake.errors import NeedsAttention
from neuralake.schema import conform

__all__ = ["Decoder"]

_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_ROWS_MAX = 64 * 1024
# Read ahead per column: less means more requests, more means memory for wide tables.
_BUFFER_BYTES = 256 * 1024


class Decoder:
    """Decodes files into rows of some columns (those of the files, without partition columns)."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._schema = columns.physical

    def batches(
        self, source: BinaryIO, *, path: str, deleted: Sequence[int] = ()
    ) -> Iterator[tuple[int, pa.Table]]:
        """The rows of the Parquet file `source` without deleted ones, conformed, in order.

        Each batch comes with how many rows the file had in its place.

        Args:
            deleted: places of rows in the file, from 0, ascending.

        Raises:
            SchemaMismatch: a column's type or value does not fit the table's.
            NeedsAttention: it is no Parquet file, or a damaged one, or has dates of Spark's old
                calendar.
        """
        start = 0
        try:
            file = pq.ParquetFile(
                source,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                coerce_int96_timestamp_unit="us",
            )
            names = self._names(file.schema_arrow, self._schema, path)
            found = file.iter_batches(
                batch_size=_batch_rows(file.metadata),
                columns=[*names.values()],
                use_threads=False,
            )
            is_old = is_of_old_calendar(file.metadata.metadata)
            for batch in found:
                rows = conform(self._chosen(batch, names), self._schema, name=path)
                rows = self._columns.to_logical(_without(rows, deleted, start))
                start += batch.num_rows
                if is_old:
                    refuse_old_values(rows, path=path)
                yield batch.num_rows, rows
        except (pa.ArrowInvalid, OSError) as error:
            raise NeedsAttention(
                f"Data file {path} cannot be read as Parquet: {error}.", path=path
            ) from error

    def _names(self, found: Iterable[pa.Field], wanted: pa.Schema, path: str) -> dict[str, str]:
        """Names in the file by the table's (physical) names, for the columns that it has."""
        if not self._columns.by_id:
            return _by_name([field.name for field in found], wanted)
        by_id = {field_id(field): field.name for field in found}
        if set(by_id) == {None}:
            # The protocol: refuse, or return nulls. Nulls would look like the truth.
            raise NeedsAttention(
                f"Data file {path} has no field ids, but the table maps its columns by id.",
                path=path,
            )
        names = {field.name: by_id.get(field_id(field)) for field in wanted}
        return {name: there for name, there in names.items() if there is not None}

    def _chosen(self, batch: pa.RecordBatch, names: dict[str, str]) -> pa.Table:
        """The table's columns of `batch`, each near enough to its type for `conform`."""
        columns = [
            self._adapt(batch[names[field.name]], field.type)
            if field.name in names
            else pa.nulls(batch.num_rows, field.type)
            for field in self._schema
        ]
        return pa.table(columns, names=self._schema.names)

    def _adapt(self, array: pa.Array, wanted: pa.DataType) -> pa.Array:
        """`array` with the changes that mean nothing in Parquet, but that a strict cast refuses."""
        found, types = array.type, pa.types
        # Names alone do not tell which field of a struct is which, if ids do.
        if found == wanted and not (self._columns.by_id and _has_struct(wanted)):
            return array
        if types.is_timestamp(found) and types.is_timestamp(wanted):
            # INT96 has no zone and is UTC by custom; an instant without the flag is one all the
            # same.
            return array.cast(pa.timestamp(found.unit, wanted.tz))
        if types.is_string(wanted) and (types.is_binary(found) or types.is_large_binary(found)):
            return array.cast(wanted)
        if types.is_struct(wanted) and types.is_struct(found):
            return self._adapt_struct(array, wanted)
        if types.is_list(wanted) and (types.is_list(found) or types.is_large_list(found)):
            lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), 0)
            ends = pc.cumulative_sum(lengths).cast(pa.int32())
            offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
            values = self._adapt(array.flatten(), wanted.value_type)
            kind = pa.list_(pa.field("element", values.type))
            return pa.ListArray.from_arrays(offsets, values, type=kind, mask=_mask(array))
        return array

    def _adapt_struct(self, array: pa.StructArray, wanted: pa.StructType) -> pa.Array:
        parts = dict(zip([field.name for field in array.type], array.flatten(), strict=True))
        names = self._names(array.type, pa.schema([*wanted]), "")
        children = [
            self._adapt(parts[names[field.name]], field.type)
            if field.name in names
            else pa.nulls(len(array), field.type)
            for field in wanted
        ]
        fields = [
            pa.field(field.name, child.type) for field, child in zip(wanted, children, strict=True)
        ]
        return pa.StructArray.from_arrays(children, fields=fields, mask=_mask(array))


def _by_name(found: list[str], wanted: pa.Schema) -> dict[str, str]:
    """Delta does not tell case apart."""
    by_case = {name.lower(): name for name in found}
    names = {name: name if name in found else by_case.get(name.lower()) for name in wanted.names}
    return {name: there for name, there in names.items() if there is not None}


def _without(rows: pa.Table, deleted: Sequence[int], start: int) -> pa.Table:
    """`rows`, of which the first is row `start` of the file, without those `deleted`."""
    first = bisect_left(deleted, start)
    last = bisect_left(deleted, start + rows.num_rows, first)
    if first == last:
        return rows
    kept = bytearray(b"\x01") * rows.num_rows
    for place in deleted[first:last]:
        kept[place - start] = 0
    mask = pa.Array.from_buffers(pa.uint8(), rows.num_rows, [None, pa.py_buffer(kept)])
    return rows.filter(mask.cast(pa.bool_()))


def _has_struct(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _has_struct(kind.value_type)
    return bool(pa.types.is_struct(kind))


def _batch_rows(footer: pq.FileMetaData) -> int:
    size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    row_bytes = max(1, size // max(1, footer.num_rows))
    return int(max(1, min(_BATCH_ROWS_MAX, _BATCH_BYTES // row_bytes)))


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None
