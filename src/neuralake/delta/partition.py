"""Partition values: their text in the log, their folders, and splitting rows by them.

Section "Partition Value Serialization" of the Delta protocol: the values live in the log as text,
not in the data files, and an empty text *is* null. Folder names follow Hive's custom and are
mostly for people, but Polars takes the values from them, so they hold the whole value. What has no
such form is refused by `normalise`, early enough to tell who sent it. `split` keeps the order of
rows.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import InvalidRows, SchemaMismatch, UsageError
from neuralake.schema import may_partition

__all__ = ["check_partitioning", "folder", "normalise", "serialise", "split"]

_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
# The limit of every usual file system.
_NAME_BYTES_MAX = 255


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
        if not may_partition(kind):
            # Floats, decimals and binary have a text form in the protocol, but readers disagree
            # about it (NaN, -0.0, escapes; deltalake 1.6.6 turns decimal -0.01 into "0.-1").
            raise UsageError(
                f"Column {name!r} of type {kind} cannot be a partition column: use a string, an "
                f"integer, a bool, a date or a timestamp.",
                column=name,
            )
    if len(set(partition_by)) != len(partition_by):
        raise UsageError(f"A partition column is named twice: {', '.join(partition_by)}.")
    if len(partition_by) == len(schema):
        raise UsageError("Every column is a partition column; a table needs one that is not.")


def normalise(table: pa.Table, partition_by: Sequence[str]) -> pa.Table:
    """`table` with empty strings in partition columns as nulls, which is what Delta makes of them.

    What this accepts can be committed.

    Raises:
        SchemaMismatch: such a column is not nullable; with `column` and `row`.
        InvalidRows: a value cannot be a partition (too long for a folder's name, or a year outside
            1 to 9999); with `row`, `column` and `reason`.
    """
    for name in partition_by:
        column = table[name]
        uniques = pc.unique(column)
        for position, value in enumerate(uniques):
            if (reason := _refusal(name, value)) is not None:
                row = pc.index(pc.index_in(column, value_set=uniques), position).as_py()
                raise InvalidRows(
                    f"Row {row}, partition column {name!r}: {reason}.",
                    row=row,
                    column=name,
                    reason=reason,
                )
        if pa.types.is_string(column.type) and "" in uniques.to_pylist():
            table = _without_empty(table, name)
    return table


def _without_empty(table: pa.Table, name: str) -> pa.Table:
    column, field = table[name], table.schema.field(name)
    empty = pc.equal(column, pa.scalar(""))
    if not field.nullable:
        row = pc.index(empty, True).as_py()
        raise SchemaMismatch(
            f"Partition column {name!r} is not nullable, but row {row} has an empty string, "
            f"which is null in a Delta table.",
            column=name,
            row=row,
        )
    filled = pc.if_else(empty, pa.scalar(None, column.type), column)
    return table.set_column(table.schema.get_field_index(name), field, filled)


def _refusal(name: str, value: pa.Scalar) -> str | None:
    """Why `value` cannot be a partition; None if it can."""
    try:
        text = serialise(value.as_py(), column=name)
    except (ValueError, OverflowError):
        return f"{value} has no text form (years are 1 to 9999)"
    if text == _NULL_FOLDER:
        return f"{text!r} stands for null in the names of folders"
    size = len(_part(name, text))
    if size > _NAME_BYTES_MAX:
        return (
            f"the folder's name would have {size} bytes with escapes, but {_NAME_BYTES_MAX} is the "
            f"most a file system takes"
        )
    return None


def split(
    table: pa.Table, partition_by: Sequence[str]
) -> list[tuple[dict[str, str | None], pa.Table]]:
    """Rows by partition, without the partition columns: `(values, rows)` in order of appearance.

    The order of rows within a partition is that of `table`, which must be normalised.
    """
    if table.num_rows == 0:
        return []
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
        case datetime.datetime():
            return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        case datetime.date():
            return value.isoformat()
    raise UsageError(f"{value!r} cannot be a partition value of column {column!r}.", column=column)


def folder(values: Mapping[str, str | None]) -> str:
    """The folder of a partition below the table, with `/` at its end; empty without partitions.

    Characters beyond letters, digits and `-._~` are escaped as `%XX`, so the name is the same on
    every file system.
    """
    return "".join(f"{_part(name, text)}/" for name, text in values.items())


def _part(name: str, text: str | None) -> str:
    value = _NULL_FOLDER if text is None else quote(text, safe="")
    return f"{quote(name, safe='')}={value}"


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
    return {name: serialise(table[name][row].as_py(), column=name) for name in uniques}
