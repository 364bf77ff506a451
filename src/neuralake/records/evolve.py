"""New columns of a table that takes them: which a body brings, of what type, and how types widen.

A new column has the type of the values of the first request that has it: `bool`, `int64`, `float64`
or `string`, the narrowest that takes all of them (an Arrow column brings its own). Whole numbers
widen to float64, everything else that differs to string, and null says nothing. Once the column is
in the table its type stays, and values must fit it like those of any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import UsageError
from neuralake.queue import Envelope
from neuralake.records.letters import DeadLetter
from neuralake.schema import declare

__all__ = ["brought", "inferred", "may_evolve", "text_of", "unified", "widened", "with_fields"]

_COLUMNS_MAX = 1000
_INT64 = 2**63


def widened(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    """The narrowest type for values of both; None: no value has been seen."""
    if one is None or other is None or one == other:
        return other if one is None else one
    numbers = {pa.int64(), pa.float64()}
    return pa.float64() if {one, other} == numbers else pa.string()


def inferred(rows: Iterable[Any], known: Iterable[str]) -> dict[str, pa.DataType]:
    """The columns of `rows` (values of `scalars.parse_json`) that are not `known`, with types.

    A column with an object or an array in it is none: there is no type to give it.
    """
    names, found, nested = set(known), dict[str, pa.DataType | None](), set[str]()
    for row in rows:
        if not isinstance(row, dict) or names.issuperset(row):
            continue
        for name, value in row.items():
            if name in names:
                continue
            if isinstance(value, dict | list):
                nested.add(name)
            found[name] = widened(found.get(name), _type_of(value))
    return {name: kind for name, kind in found.items() if kind is not None and name not in nested}


def brought(table: pa.Table, known: Iterable[str]) -> dict[str, pa.DataType]:
    """The columns of `table` that are not `known` and have a value, with their types."""
    names = set(known)
    return {
        field.name: field.type
        for field, column in zip(table.schema, table.columns, strict=True)
        if field.name not in names and column.null_count < len(column)
    }


def may_evolve(kind: pa.DataType) -> bool:
    """Whether a column of this type may be added: a leaf that every protocol version has."""
    return (
        not pa.types.is_nested(kind) and kind != pa.timestamp("us") and not pa.types.is_null(kind)
    )


def with_fields(schema: pa.Schema, new: Mapping[str, pa.DataType]) -> pa.Schema:
    """`schema` with those of `new` behind it that can be columns of it."""
    taken = {name.lower() for name in schema.names}
    added: list[pa.Field] = []
    for name, kind in new.items():
        if len(schema) + len(added) >= _COLUMNS_MAX:
            break
        try:
            (field,) = declare(pa.schema([pa.field(name, kind)]))
        except (UsageError, ValueError):  # A name that Delta does not take, or half a character.
            continue
        if may_evolve(field.type) and name.lower() not in taken:
            taken.add(name.lower())
            added.append(field)
    return pa.schema([*schema, *added])


def text_of(value: Any) -> str:
    """A value of a leaf type as the text that it becomes in a column of texts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) else str(value)


def unified(
    stored: Sequence[tuple[Envelope, pa.Table]], into: pa.Schema, declared: pa.Schema
) -> tuple[pa.Table, list[DeadLetter]]:
    """The rows of envelopes that may have new columns, and those that cannot be in the table.

    Columns that `into`, the table as it is, has not are added if they have a value. Rows that
    another process has acknowledged with a type that the table's column does not take are letters.
    """
    new: dict[str, pa.DataType | None] = {}
    for _, table in stored:
        for field in table.schema:
            if field.name not in into.names and table[field.name].null_count < table.num_rows:
                new[field.name] = widened(new.get(field.name), field.type)
    target = pa.schema([*into, *(pa.field(name, kind) for name, kind in new.items())])
    tables, letters = [], []
    for envelope, table in stored:
        unfit: dict[int, str] = {}
        columns = []
        for field in target:
            if field.name not in table.schema.names:
                columns.append(pa.nulls(table.num_rows, field.type))
            elif field.name in declared.names or table.schema.field(field.name).type == field.type:
                columns.append(table[field.name])
            else:
                columns.append(_cast(table[field.name], field, unfit))
        made = pa.table(columns, names=target.names)
        if unfit:
            letters += [_letter(envelope, table, row, unfit[row], into) for row in sorted(unfit)]
            fits = [row not in unfit for row in range(table.num_rows)]
            made = made.filter(pa.array(fits))
        tables.append(made)
    return pa.concat_tables(tables, promote_options="default"), letters


def _type_of(value: Any) -> pa.DataType | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if -_INT64 <= value < _INT64 else pa.float64()
    return pa.float64() if isinstance(value, Decimal) else pa.string()


def _cast(column: pa.ChunkedArray, field: pa.Field, unfit: dict[int, str]) -> pa.Array:
    """`column` as `field.type`, value by value; rows that do not fit are noted in `unfit`."""
    if pa.types.is_string(field.type):
        values = column.to_pylist()
        return pa.array([None if v is None else text_of(v) for v in values], pa.string())
    try:
        return pc.cast(column, field.type)
    except pa.ArrowInvalid:
        pass
    except pa.ArrowNotImplementedError:
        unfit.update(dict.fromkeys(_valid(column), field.name))
        return pa.nulls(len(column), field.type)
    found = []
    for row in range(len(column)):
        try:
            found.append(pc.cast(column.slice(row, 1), field.type)[0].as_py())
        except pa.ArrowInvalid:
            unfit[row] = field.name
            found.append(None)
    return pa.array(found, field.type)


def _valid(column: pa.ChunkedArray) -> list[int]:
    return [row for row, valid in enumerate(column.is_valid().to_pylist()) if valid]


def _letter(
    envelope: Envelope, table: pa.Table, row: int, column: str, into: pa.Schema
) -> DeadLetter:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.slice(row, 1))
    kind, found = into.field(column).type, table.schema.field(column).type
    return DeadLetter(
        bytes(sink.getvalue()),
        f"the new column is {kind} in the table; this row was stored with {found} at the same time",
        column,
        row=row,
        format="arrow",
        position=envelope.position,
    )
