"""The declared schema: which column types we accept, and how a batch is brought to them.

A table's schema is Arrow, because that is what users write. We accept what Delta can hold exactly:
signed integers, float32/64, decimal, string, binary, bool, date, timestamp in microseconds (UTC or
without zone), and lists and structs of these. Everything else is refused by name with the type to
use instead. `conform` never changes a value: what does not fit exactly is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import SchemaMismatch, UsageError, suggestion

# Processes that read no frame, as those that run SQL, start without Polars: a third sooner.
if TYPE_CHECKING:
    import polars as pl

__all__ = ["conform", "declare", "forbids_nulls", "may_partition", "polars_schema", "with_more"]

_SHOWN_LENGTH_MAX = 300
_EXACT = (
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.binary(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
)


def declare(schema: pa.Schema) -> pa.Schema:
    """`schema` with our types only; the layout variants (large, view, dictionary) become plain.

    Raises:
        UsageError: no columns, a name twice (Delta compares without case) or a type that Delta
            cannot hold exactly; the message names the column and the type to use.
    """
    if len(schema) == 0:
        raise UsageError("The schema has no columns; a table needs at least one.")
    _check_names(schema.names, path="")
    return pa.schema([_declare_field(field, field.name) for field in schema])


def with_more(schema: pa.Schema, there: pa.Schema) -> pa.Schema:
    """`schema`, and behind it the fields that only `there` has."""
    return pa.schema([*schema, *(field for field in there if field.name not in schema.names)])


def may_partition(kind: pa.DataType) -> bool:
    """Whether a column of type `kind` can be a partition column, that is, has one form as text."""
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_date(kind)
        or types.is_timestamp(kind)
    )


def conform(table: pa.Table, schema: pa.Schema, *, name: str = "table") -> pa.Table:
    """`table` with exactly the columns, order and types of the declared `schema`.

    Missing nullable columns and struct fields become null. Casts are exact: layout variants,
    narrower to wider numbers, integers to floats and decimals that hold them, coarser to finer
    timestamps, one zone to another. A value that would change is an error.

    Raises:
        SchemaMismatch: an unknown column, a missing or null value where none may be (also inside
            structs and lists), or a type or value that does not fit; with `column` and, for
            values, `row` (from 0).
    """
    if table.schema.equals(schema, check_metadata=False):
        checked = table.replace_schema_metadata(None)
    else:
        _refuse_unknown_columns(table.schema.names, schema, name)
        checked = pa.table([_conform_column(table, field, name) for field in schema], schema=schema)
    for place, field in enumerate(schema):
        if forbids_nulls(field):
            column = checked[field.name]
            _refuse_nulls(column, field, name)
            if any(map(forbids_nulls, _children(field.type))):
                chunks = [_without_hidden_nulls(chunk, field) for chunk in column.chunks]
                column = pa.chunked_array(chunks, field.type)
                checked = checked.set_column(place, field, column)
    return checked


def forbids_nulls(field: pa.Field) -> bool:
    """Whether there is a place in `field` where a null is forbidden."""
    return not field.nullable or any(forbids_nulls(child) for child in _children(field.type))


def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The Polars types in which a table of the declared `schema` comes out of a frame."""
    import polars as pl

    return pl.Schema(schema)


def _check_names(names: list[str], *, path: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not name or any(c in name for c in " ,;{}()\n\t="):
            # Delta without column mapping stores names as Parquet does, which forbids these.
            raise UsageError(
                f"Column name {path + name!r} is empty or has one of ' ,;{{}}()=', tab or newline; "
                f"use letters, digits and '_'.",
                column=path + name,
            )
        if (other := seen.get(name.lower())) is not None:
            raise UsageError(
                f"Columns {path + other!r} and {path + name!r} are the same to Delta, which does "
                f"not tell case apart.",
                column=path + name,
            )
        seen[name.lower()] = name


def _declare_field(field: pa.Field, path: str) -> pa.Field:
    return pa.field(field.name, _declare_type(field.type, path), nullable=field.nullable)


def _declare_type(kind: pa.DataType, path: str) -> pa.DataType:
    types = pa.types
    if kind in _EXACT:
        return kind
    if types.is_dictionary(kind):
        return _declare_type(kind.value_type, path)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_decimal128(kind) and 0 <= kind.scale <= kind.precision:
        return kind
    if types.is_timestamp(kind) and kind.unit == "us" and kind.tz in ("UTC", "+00:00", "Etc/UTC"):
        return pa.timestamp("us", tz="UTC")
    if types.is_list(kind) or types.is_large_list(kind):
        item = kind.value_field
        return pa.list_(
            pa.field("element", _declare_type(item.type, f"{path}[]"), nullable=item.nullable)
        )
    if types.is_struct(kind) and kind.num_fields:
        _check_names([field.name for field in kind], path=f"{path}.")
        return pa.struct([_declare_field(field, f"{path}.{field.name}") for field in kind])
    raise UsageError(
        f"Column {path!r} has type {kind}, which a Delta table cannot hold exactly. "
        f"{_advice(kind)}",
        column=path,
        type=str(kind),
    )


def _advice(kind: pa.DataType) -> str:
    types = pa.types
    wider = {"uint8": "int16", "uint16": "int32", "uint32": "int64", "uint64": "decimal128(20, 0)"}
    if types.is_unsigned_integer(kind):
        return f"Use {wider[str(kind)]}."
    if types.is_float16(kind):
        return "Use float32."
    if types.is_timestamp(kind) and kind.tz:
        return "Use timestamp('us', tz='UTC') and keep the local zone in a column of its own."
    if types.is_timestamp(kind):
        return "Use timestamp('us')."
    if types.is_date64(kind):
        return "Use date32."
    if types.is_time(kind) or types.is_duration(kind):
        return "Use int64 with the unit in the column's name."
    if types.is_struct(kind):
        return "Give it a field: Parquet has no empty struct."
    if types.is_fixed_size_list(kind):
        return "Use a list of the same element; batches with the fixed size are accepted."
    if types.is_fixed_size_binary(kind):
        return "Use binary; batches with the fixed size are accepted."
    if types.is_map(kind):
        return "Use a list of structs with fields 'key' and 'value'."
    if types.is_decimal(kind):
        return "Use decimal128 with a precision up to 38 and a scale from 0 to the precision."
    return f"Accepted: {', '.join(str(exact) for exact in _EXACT)}, decimal128, list and struct."


def _refuse_unknown_columns(names: list[str], schema: pa.Schema, name: str) -> None:
    for column in names:
        if column not in schema.names:
            column = _short(column)  # A stranger's name may have megabytes.
            raise SchemaMismatch(
                f"{name!r} has no column {column!r}.{suggestion(column, schema.names)} "
                f"Its columns: {', '.join(schema.names)}.",
                column=column,
                known=schema.names,
            )
    if len(set(names)) != len(names):
        twice = next(column for column in names if names.count(column) > 1)  # All are ours: few.
        raise SchemaMismatch(f"Column {twice!r} appears twice.", column=twice)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_LENGTH_MAX else text[: _SHOWN_LENGTH_MAX - 3] + "..."


def _conform_column(table: pa.Table, field: pa.Field, name: str) -> pa.ChunkedArray:
    if field.name not in table.schema.names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)], type=field.type)
    column = table[field.name]
    if column.type == field.type:
        return column
    if not _is_exact(column.type, field.type):
        raise SchemaMismatch(
            f"Column {field.name!r} of {name!r} is {field.type}, but the batch has "
            f"{_short(str(column.type))}. Cast it before sending.",
            column=field.name,
        )
    try:
        return _cast(column, field.type)
    except pa.ArrowInvalid as error:
        row = _first_misfit(column, field.type)
        raise SchemaMismatch(
            f"Column {field.name!r} of {name!r} is {field.type}, but row {row} does not fit: "
            f"{str(error).splitlines()[0]}.",
            column=field.name,
            row=row,
        ) from error


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([_cast_array(chunk, wanted) for chunk in column.chunks], type=wanted)


def _cast_array(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """`array` as `wanted`, its values checked; whether nulls may be there is left to others.

    Lists and structs are taken apart and put together again: Arrow 26 refuses nulls in a field
    although its whole struct is null, checks values that no row refers to, and breaks slices of
    structs that have a field of type null (a second cast then aborts the process).
    """
    found, types = array.type, pa.types
    if found == wanted:
        return array
    if types.is_null(found):
        return pa.nulls(len(array), wanted)
    if types.is_dictionary(found):
        return _cast_array(array.dictionary_decode(), wanted)
    if types.is_struct(wanted):
        parts = dict(zip([field.name for field in found], array.flatten(), strict=True))
        missing = pa.nulls(len(array))
        children = [_cast_array(parts.get(field.name, missing), field.type) for field in wanted]
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=array.is_null())
    if types.is_list(wanted):
        return pa.ListArray.from_arrays(
            _offsets(array),
            _cast_array(array.flatten(), wanted.value_type),
            type=wanted,
            mask=array.is_null(),
        )
    if types.is_integer(found) and types.is_decimal(wanted):
        # Straight from integers, Arrow wants room for every value of the type; from decimal to
        # decimal it looks at the values. 20 digits hold uint64.
        array = array.cast(pa.decimal128(20, 0))
    return array.cast(wanted)


def _children(kind: pa.DataType) -> list[pa.Field]:
    if pa.types.is_list(kind):
        return [kind.value_field]
    return list(kind) if pa.types.is_struct(kind) else []


def _refuse_nulls(column: pa.ChunkedArray, field: pa.Field, name: str) -> None:
    if not column.null_count and not any(forbids_nulls(child) for child in _children(field.type)):
        return  # The common case, without a row number for every value.
    import polars as pl

    begin = 0
    for chunk in column.chunks:
        rows = pl.int_range(begin, begin + len(chunk), eager=True).to_arrow()
        found = _find_null(chunk, field, field.name, rows)
        if found is not None:
            path, row = found
            raise SchemaMismatch(
                f"Column {path!r} of {name!r} is not nullable, but row {row} has no value.",
                column=path,
                row=row,
            )
        begin += len(chunk)


def _find_null(
    values: pa.Array, field: pa.Field, path: str, rows: pa.Array
) -> tuple[str, int] | None:
    """Path and row of the first null where none may be; `rows` is the row of each value."""
    if not field.nullable and values.null_count:
        return path, rows[pc.index(values.is_null(), True).as_py()].as_py()
    inner = _children(field.type)
    if not any(forbids_nulls(child) for child in inner):
        return None
    there = values.is_valid()  # Inside what is null itself, nothing is missing.
    values, rows = values.filter(there), rows.filter(there)
    if pa.types.is_list(field.type):
        parents = rows.take(pc.list_parent_indices(values))
        return _find_null(values.flatten(), inner[0], f"{path}[]", parents)
    found = (
        _find_null(values.field(i), child, f"{path}.{child.name}", rows)
        for i, child in enumerate(inner)
    )
    return next((each for each in found if each is not None), None)


def _without_hidden_nulls(array: pa.Array, field: pa.Field) -> pa.Array:
    """`array` with any value where it is null although it must not be, as its struct is null.

    Arrow 26 writes no Parquet with nulls there. What other engines write is often read so.
    """
    kind, inner = field.type, _children(field.type)
    mask = array.is_null() if field.nullable and array.null_count else None
    if any(map(forbids_nulls, inner)) or (inner and not field.nullable and array.null_count):
        if pa.types.is_struct(kind):
            children = [_without_hidden_nulls(array.field(i), each) for i, each in enumerate(inner)]
            return pa.StructArray.from_arrays(children, fields=inner, mask=mask)
        values = _without_hidden_nulls(array.flatten(), inner[0])
        return pa.ListArray.from_arrays(_offsets(array), values, type=kind, mask=mask)
    if field.nullable or not array.null_count:
        return array
    buffers = [None, *array.buffers()[1:]]
    return pa.Array.from_buffers(kind, len(array), buffers, offset=array.offset)


def _offsets(lists: pa.Array) -> pa.Array:
    """Of lists in their values as `flatten` has them: those that a null hides are left out."""
    lengths = pc.fill_null(pc.list_value_length(lists).cast(pa.int64()), 0)
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])


def _is_exact(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a safe cast from `found` keeps every value it accepts."""
    types = pa.types
    if types.is_null(found):
        return True
    if types.is_dictionary(found):
        return _is_exact(found.value_type, wanted)
    if types.is_list(wanted):
        return _is_list(found) and _is_exact(found.value_type, wanted.value_type)
    if types.is_struct(wanted):
        return types.is_struct(found) and _are_exact(found, wanted)
    families = (
        (types.is_integer, types.is_integer),
        (types.is_integer, types.is_floating),
        (types.is_integer, types.is_decimal),
        (types.is_float16, types.is_float32),
        (types.is_floating, types.is_float64),
        (_is_text, _is_text),
        (_is_bytes, _is_bytes),
        (types.is_date, types.is_date),
        (types.is_decimal, types.is_decimal),
    )
    if any(a(found) and b(wanted) for a, b in families):
        return True
    # Both with a zone (an instant) or both without (a wall clock); never one to the other.
    return (
        types.is_timestamp(found)
        and types.is_timestamp(wanted)
        and (found.tz is None) == (wanted.tz is None)
    ) or found == wanted


def _are_exact(found: pa.StructType, wanted: pa.StructType) -> bool:
    """Field by field, by name: none unknown, none twice, and what is missing may be null."""
    by_name = {field.name: field for field in wanted}
    names = [field.name for field in found]
    return (
        len(set(names)) == len(names)
        and all(name in by_name for name in names)
        and all(field.nullable for field in wanted if field.name not in names)
        and all(_is_exact(field.type, by_name[field.name].type) for field in found)
    )


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _first_misfit(column: pa.ChunkedArray, wanted: pa.DataType) -> int:
    """Row of the first value that a safe cast refuses, by bisection: log2(rows) casts."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(column.slice(low, middle - low), wanted)
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low
