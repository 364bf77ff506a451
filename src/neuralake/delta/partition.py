"""Partition values: their text in the log, their folders, and splitting rows by them.

Section "Partition Value Serialization" of the Delta protocol: the values live in the log as text,
not in the data files, and an empty text *is* null. Folder names follow Hive's custom and are for
people only: readers take the values from the log. `split` keeps the order of rows.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import InvalidRows, SchemaMismatch, UsageError

__all__ = ["check_partitioning", "folder", "normalise", "serialise", "split"]

_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
# A name may have 255 bytes on every usual file system.
_FOLDER_BYTES_MAX = 200


def check_partitioning(schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Refuse partition columns that are unknown, repeated, or of a type that cannot be one.

    Raises:
        UsageError: with `column`.
    """
    for name in partition_by:
        if name not in schema.names:
            raise UsageError(
                f"Partition column {name!r} is not in the schema: {', '.join(schema.names)}.",
                column=name,
                known=schema.names,
            )
        kind = schema.field(name).type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_floating(kind):
            # Floats and binary have a text form in the protocol, but readers disagree about it
            # (NaN, -0.0, escapes), so rows would get lost in filters.
            raise UsageError(
                f"Column {name!r} of type {kind} cannot be a partition column: use a string, an "
                f"integer, a decimal, a bool, a date or a timestamp.",
                column=name,
            )
    if len(set(partition_by)) != len(partition_by):
        raise UsageError(f"A partition column is named twice: {', '.join(partition_by)}.")
    if len(partition_by) == len(schema):
        raise UsageError("Every column is a partition column; a table needs one that is not.")


def normalise(table: pa.Table, partition_by: Sequence[str]) -> pa.Table:
    """`table` with empty strings in partition columns as nulls, which is what Delta makes of them.

    Raises:
        SchemaMismatch: such a column is not nullable; with `column` and `row`.
    """
    for name in partition_by:
        column = table[name]
        if not pa.types.is_string(column.type):
            continue
        empty = pc.equal(column, "")
        if not pc.any(empty).as_py():
            continue
        field = table.schema.field(name)
        if not field.nullable:
            row = pc.index(empty, True).as_py()
            raise SchemaMismatch(
                f"Partition column {name!r} is not nullable, but row {row} has an empty string, "
                f"which is null in a Delta table.",
                column=name,
                row=row,
            )
        filled = pc.if_else(empty, pa.scalar(None, column.type), column)
        table = table.set_column(table.schema.get_field_index(name), field, filled)
    return table


def split(
    table: pa.Table, partition_by: Sequence[str]
) -> list[tuple[dict[str, str | None], pa.Table]]:
    """Rows by partition, without the partition columns: `(values, rows)` in order of appearance.

    The order of rows within a partition is that of `table`, which must be normalised.

    Raises:
        InvalidRows: a value has no text form (a year outside 1 to 9999).
    """
    if not partition_by:
        return [({}, table)]
    uniques = {name: pc.unique(table[name]) for name in partition_by}
    codes = _codes(table, uniques)
    body = table.drop_columns(list(partition_by))
    if codes is None:
        return [(_values_at(table, uniques, 0), body)]
    order = pc.sort_indices(codes)  # Stable, by Arrow's documentation.
    runs = pc.run_end_encode(codes.take(order))
    body = body.take(order)
    parts, start = [], 0
    for end in runs.run_ends.to_pylist():
        first = order[start].as_py()
        parts.append((_values_at(table, uniques, first), body.slice(start, end - start)))
        start = end
    return parts


def serialise(value: Any, *, column: str = "") -> str | None:
    """The text of one partition value (a Python value of a type that may partition)."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return value or None
        case int():
            return str(value)
        case Decimal():
            return format(value, "f")
        case datetime.datetime():
            return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        case datetime.date():
            return value.isoformat()
    raise UsageError(f"{value!r} cannot be a partition value of column {column!r}.", column=column)


def folder(values: Mapping[str, str | None]) -> str:
    """The folder of a partition below the table, with `/` at its end; empty without partitions.

    Characters beyond letters, digits and `-._~` are escaped as `%XX`, so the name is the same on
    every file system; a long one is cut, with a digest of the whole to keep it apart from others.
    """
    return "".join(f"{_part(name, text)}/" for name, text in values.items())


def _part(name: str, text: str | None) -> str:
    value = _NULL_FOLDER if text is None else quote(text, safe="")
    part = f"{quote(name, safe='')}={value}"
    if len(part) <= _FOLDER_BYTES_MAX:
        return part
    digest = hashlib.blake2b(part.encode(), digest_size=8).hexdigest()
    # Cut before an escape sequence, never within one.
    return re.sub(r"%.?$", "", part[: _FOLDER_BYTES_MAX - 20]) + "~" + digest


def _codes(table: pa.Table, uniques: Mapping[str, pa.Array]) -> pa.Int64Array | None:
    """A number per row that is equal where all partition values are; None if all rows agree."""
    codes = None
    for name, values in uniques.items():
        if len(values) <= 1:
            continue
        index = pa.concat_arrays(pc.index_in(table[name], value_set=values).chunks)
        index = index.cast(pa.int64())
        codes = index if codes is None else pc.add(pc.multiply(codes, len(values)), index)
    return codes


def _values_at(table: pa.Table, uniques: Mapping[str, pa.Array], row: int) -> dict[str, str | None]:
    values = {}
    for name in uniques:
        try:
            values[name] = serialise(table[name][row].as_py(), column=name)
        except (ValueError, OverflowError) as error:
            raise InvalidRows(
                f"Row {row}, column {name!r}: {table[name][row]} has no text form as a partition "
                f"value ({error}). Years are 1 to 9999.",
                row=row,
                column=name,
                reason=str(error),
            ) from error
    return values
