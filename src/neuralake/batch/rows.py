"""Rows as a caller has them, brought to the table's columns; nothing is rounded, cut or guessed.

Arrow tables, Polars frames, anything else with Arrow's C stream (pandas, DuckDB), and lists of
dicts with Python values. A batch job's rows are in memory once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from neuralake.errors import SchemaMismatch, UsageError
from neuralake.schema import conform

__all__ = ["fitted", "given"]


def given(rows: Any, schema: pa.Schema, *, name: str) -> pa.Table:
    """`rows` as an Arrow table with the columns that they have, in the table's types.

    Columns that are missing stay missing; use `fitted` to have them all.

    Raises:
        SchemaMismatch: a column is unknown, or a value does not fit exactly; with `column` and
            where known `row`.
        UsageError: `rows` are none of the accepted kinds.
    """
    table = _as_table(rows, schema)
    if not set(table.schema.names) <= set(schema.names):
        conform(table, schema, name=name)  # Which tells of the column, and of those there are.
    known = pa.schema([field for field in schema if field.name in table.schema.names])
    # An empty list has no columns, and fits any.
    return conform(table, known, name=name) if len(known) else schema.empty_table()


def fitted(rows: Any, schema: pa.Schema, *, name: str) -> pa.Table:
    """`rows` with exactly the table's columns, missing ones null. Errors as `given`."""
    return conform(given(rows, schema, name=name), schema, name=name)


def _as_table(rows: Any, schema: pa.Schema) -> pa.Table:
    if isinstance(rows, pl.LazyFrame):
        rows = rows.collect()
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.table(rows)
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping):
        return _from_dicts(list(rows), schema)
    raise UsageError(
        f"Rows are an Arrow table, a Polars frame or a list of dicts; found {type(rows).__name__}.",
        found=type(rows).__name__,
    )


def _from_dicts(rows: list[Any], schema: pa.Schema) -> pa.Table:
    names: dict[str, None] = {}  # In the order in which they appear.
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UsageError(
                f"Rows are dicts of values by column; row {number} is {type(row).__name__}.",
                row=number,
                found=type(row).__name__,
            )
        names.update(dict.fromkeys(row))
    columns = {}
    for name in names:
        kind = schema.field(name).type if name in schema.names else None
        columns[str(name)] = _column(str(name), [row.get(name) for row in rows], kind)
    return pa.table(columns)


def _column(name: str, values: list[Any], wanted: pa.DataType | None) -> pa.Array:
    """`values` in the type that they have by themselves: `conform` then knows what it may change.

    Made straight into the column's type, Arrow would cut 1.5 to 1 and take a wall clock for UTC.
    """
    if (row := _odd_one(values)) is not None:
        raise SchemaMismatch(
            f"Column {name!r}: row {row} has {type(values[row]).__name__} {values[row]!r}, and a "
            f"row before it has another kind of value.",
            column=name,
            row=row,
        )
    try:
        found = pa.array(values)
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        OverflowError,
    ) as error:
        raise SchemaMismatch(
            f"Column {name!r} has values of different kinds, or of a kind that no column has: "
            f"{str(error).splitlines()[0]}.",
            column=name,
        ) from error
    # Python has one float; a number of a float32 column is the nearest there is, as from JSON.
    return found if wanted is None else found.cast(_with_single_floats(found.type, wanted))


def _odd_one(values: list[Any]) -> int | None:
    """The first row whose value Arrow would quietly bring to the kind of those before it."""
    seen: object = None
    for row, value in enumerate(values):
        # A wall clock beside an instant, or a time beside a date.
        tells = (type(value), getattr(value, "tzinfo", None) is None)
        if value is None or not hasattr(value, "toordinal"):
            continue
        if seen is not None and tells != seen:
            return row
        seen = tells
    return None


def _with_single_floats(found: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """`found` with float32 wherever `wanted` has it and `found` is float64."""
    types = pa.types
    if types.is_float64(found) and types.is_float32(wanted):
        return wanted
    if types.is_list(found) and types.is_list(wanted):
        return pa.list_(_with_single_floats(found.value_type, wanted.value_type))
    if types.is_struct(found) and types.is_struct(wanted):
        inner = {field.name: field.type for field in wanted}
        return pa.struct(
            [
                (field.name, _with_single_floats(field.type, inner.get(field.name, field.type)))
                for field in found
            ]
        )
    return found
