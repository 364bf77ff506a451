"""Many rows of JSON at once: pyarrow's parser, fenced in so that it never differs from `rows`.

pyarrow reads JSON an order of magnitude faster than Python, without holding the interpreter lock,
and refuses most of what `scalars` refuses. Where it is looser we read a stricter wire type and
convert: texts for timestamps, dates and binary; double for float32, whose overflow it would turn
into infinity; decimal256 for decimals, whose overflow it does not notice. `read` answers None
whenever the two might differ, and the exact path decides; the property test in tests/ingest holds
this over generated documents.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from neuralake.records.dropped import Dropped
from neuralake.records.numbers import may_exceed_decimal256, may_exceed_double
from neuralake.records.scalars import DAY_US, DAYS_MIN, TIMESTAMP_US_MAX, TIMESTAMP_US_MIN

__all__ = ["AnyObject", "ColumnReader", "Doubt", "binaries", "dates", "timestamps"]

_DOUBLE_EXACT_MAX = 2.0**53
# "2013-01-01T10" is the shortest timestamp we accept; a date alone is not one.
_TIMESTAMP_LENGTH_MIN = len("2013-01-01T10")


class Doubt(Exception):
    """The exact path may read this block differently."""


class AnyObject(msgspec.Struct, gc=False):
    """Any JSON object: decoding to it checks the grammar and skips the content."""


class ColumnReader:
    """Reads blocks of rows of one table. Use it from any thread.

    Args:
        drops: columns that the schema has not are left out. Of their values only the grammar is
            looked at, where the exact path also refuses one name twice in an object.
    """

    def __init__(self, schema: pa.Schema, *, drops: bool = False) -> None:
        self._schema, self._drops = schema, drops
        self._names = frozenset(schema.names)
        self._keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._has_decimals = any(_contains(field.type, pa.types.is_decimal) for field in schema)
        self._has_structs = any(_contains_struct(field.type) for field in schema)
        self._has_integers = any(_contains(field.type, pa.types.is_integer) for field in schema)
        self._wire = _wire_schema(schema)
        self._loose_wire = _wire_schema(schema, integers=pa.float64())
        self._objects = msgspec.json.Decoder(AnyObject)

    def read(self, block: bytes, *, dropped: Dropped | None = None) -> pa.Table | None:
        """The rows of `block` (JSON objects, one after another), or None: ask the exact path.

        Args:
            dropped: counts what is left out, if there are rows.
        """
        unknown: list[list[str]] = []
        try:
            # pyarrow crashes the process on a row that is null, and does not check UTF-8: nothing
            # reaches it that is not a sequence of JSON objects in valid UTF-8.
            if self._drops:
                found = self._keys.decode_lines(block)
                rows, known = len(found), self._names
                unknown = [
                    [name for name in row if name not in known]
                    for row in found
                    if not known.issuperset(row)
                ]
            else:
                rows = len(self._objects.decode_lines(block))
            if not block.isascii():
                block.decode()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        if self._has_decimals and may_exceed_decimal256(block):
            return None
        if unknown and self._has_structs:
            return None  # pyarrow would leave out unknown fields of structs, too.
        table = self._parsed(block, self._wire, rows, ignores=bool(unknown))
        if table is None and self._has_integers and not may_exceed_double(block):
            # Programs that know only floats (pandas with missing values) write 1.0 for 1.
            table = self._parsed(block, self._loose_wire, rows, ignores=bool(unknown))
        if table is not None and dropped is not None:
            for names in unknown:
                dropped.add(names)
        return table

    def _parsed(
        self, block: bytes, wire: pa.Schema, rows: int, *, ignores: bool
    ) -> pa.Table | None:
        try:
            parsed = pj.read_json(
                pa.BufferReader(block),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=wire,
                    unexpected_field_behavior="ignore" if ignores else "error",
                ),
            )
            if parsed.num_rows != rows:
                return None
            columns = [_column(parsed[field.name], field) for field in self._schema]
        except (Doubt, pa.ArrowException, ValueError):
            return None
        return pa.table(columns, schema=self._schema)


def _wire_schema(schema: pa.Schema, *, integers: pa.DataType | None = None) -> pa.Schema:
    """The types to ask of pyarrow's parser; `integers`: for every integer type, if not itself."""
    return pa.schema([pa.field(field.name, _wire(field.type, integers)) for field in schema])


def _wire(kind: pa.DataType, integers: pa.DataType | None) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _wire(field.type, integers)) for field in kind])
    if types.is_list(kind):
        return pa.list_(pa.field("element", _wire(kind.value_type, integers)))
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_binary(kind):
        return pa.string()
    if types.is_decimal(kind):
        return pa.decimal256(76, kind.scale)
    if types.is_integer(kind):
        return integers or kind
    if kind == pa.float32():
        return pa.float64()
    return kind


def _contains(kind: pa.DataType, is_wanted: Callable[[pa.DataType], bool]) -> bool:
    """Whether `kind` is or holds a type that `is_wanted`."""
    if pa.types.is_nested(kind):
        return any(_contains(kind.field(at).type, is_wanted) for at in range(kind.num_fields))
    return is_wanted(kind)


def _contains_struct(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _contains_struct(kind.value_type)
    return bool(pa.types.is_struct(kind))


def _column(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    chunks = [_array(chunk, field) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=field.type)


def _array(array: pa.Array, field: pa.Field) -> pa.Array:
    kind, types = field.type, pa.types
    if array.null_count and not field.nullable:
        raise Doubt
    if types.is_struct(kind):
        return _struct(array, kind)
    if types.is_list(kind):
        return _list(array, kind)
    if types.is_floating(kind):
        return _floats(array, kind)
    if types.is_timestamp(kind):
        return timestamps(array, kind)
    if types.is_date(kind):
        return dates(array)
    if types.is_binary(kind):
        return binaries(array)
    if types.is_integer(kind):
        return _integers(array, kind)
    if types.is_decimal(kind):
        array = array.cast(kind)
        array.validate(full=True)  # The cast does not always check the precision.
    return array


def _struct(array: pa.StructArray, kind: pa.StructType) -> pa.Array:
    # A null struct has null fields below it, which a field that is not nullable does not allow;
    # whether they are really missing is for the exact path.
    children = [_array(array.field(index), field) for index, field in enumerate(kind)]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())


def _list(array: pa.ListArray, kind: pa.ListType) -> pa.Array:
    values = _array(array.values, kind.value_field)
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(array.offsets, values, type=kind, mask=mask)


def _integers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    largest = pc.max(pc.abs(array)).as_py()
    if largest is not None and largest >= _DOUBLE_EXACT_MAX:
        raise Doubt
    return array.cast(kind)  # Refuses what is not integral or out of range.


def _floats(array: pa.Array, kind: pa.DataType) -> pa.Array:
    array = array.cast(kind, safe=False)
    # Too large for the type: the exact path says so. (NaN cannot come out of JSON numbers.)
    if pc.any(pc.is_inf(array)).as_py():
        raise Doubt
    return array


def timestamps(array: pa.Array, kind: pa.TimestampType) -> pa.Array:
    """Texts as `kind`; Doubt or an Arrow error where the exact path must look."""
    shortest = pc.min(pc.binary_length(array)).as_py()
    if shortest is not None and shortest < _TIMESTAMP_LENGTH_MIN:
        raise Doubt
    instants = array.cast(kind)
    bounds = pc.min_max(instants.cast(pa.int64()))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    # A day of distance: near the ends the exact path looks at the written year too.
    if low is not None and (low < TIMESTAMP_US_MIN + DAY_US or high > TIMESTAMP_US_MAX - DAY_US):
        raise Doubt
    return instants


def dates(array: pa.Array) -> pa.Array:
    """Texts as dates; Doubt or an Arrow error where the exact path must look."""
    days = array.cast(pa.date32())
    first = pc.min(days.cast(pa.int32())).as_py()
    if first is not None and first < DAYS_MIN:
        raise Doubt
    return days


def binaries(array: pa.Array) -> pa.Array:
    """Base64 texts as bytes; ValueError where the exact path must look."""
    return pa.array(
        [
            None if text is None else binascii.a2b_base64(text, strict_mode=True)
            for text in array.to_pylist()
        ],
        type=pa.binary(),
    )
