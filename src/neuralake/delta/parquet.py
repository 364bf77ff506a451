"""One Parquet file in memory, and its statistics as the Delta log keeps them.

Section "Per-file Statistics" of the Delta protocol. The promise: a reader that skips files by these
statistics never misses a row. So bounds only ever widen (times outwards to milliseconds, long
strings to a prefix above or below), and where a sound bound is uncertain (NaN, infinities, very
long decimals) there is none. Minima and maxima come from the footer: the writer has them already.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["EncodedFile", "Encoder"]

# Delta's default of `delta.dataSkippingNumIndexedCols`: more would bloat the log of wide tables.
_LEAVES_MAX = 32
_TEXT_MAX = 32
# A float64 holds 15 decimal digits exactly, and readers may take JSON numbers as float64.
_DECIMAL_DIGITS_MAX = 15
# Below this, zstd's set-up and dictionary pages cost more time than they save.
_SMALL_BYTES = 64 * 1024
_GROUP_ROWS_MAX = 1024 * 1024
_GROUP_BYTES = 128 * 1024 * 1024
_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 zone is written out by hand below
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class EncodedFile:
    data: memoryview
    rows: int
    stats: str
    """JSON: numRecords, minValues, maxValues, nullCount."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A Parquet column: its place in the file, and where its statistics go."""

    index: int
    path: tuple[str, ...]
    low: Callable[[Any], Any] | None
    high: Callable[[Any], Any] | None
    is_float: bool
    is_decimal: bool


class Encoder:
    """Encodes rows of one schema (that of the files, so without partition columns)."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._leaves: list[_Leaf] = []
        self._lists: list[str] = []
        index = 0
        for field in schema:
            if pa.types.is_list(field.type):
                self._lists.append(field.name)
            for path, kind in _leaves(field.type, (field.name,)):
                if path is not None and len(self._leaves) < _LEAVES_MAX:
                    low, high = _bounds(kind)
                    is_float = pa.types.is_floating(kind)
                    is_decimal = pa.types.is_decimal(kind)
                    self._leaves.append(_Leaf(index, path, low, high, is_float, is_decimal))
                index += 1
        self._lists = self._lists[:_LEAVES_MAX]

    def encode(self, *batches: pa.Table) -> EncodedFile:
        """The rows of `batches`, which have this encoder's schema, as one Parquet file."""
        return self.encode_all(
            batches, is_small=sum(rows.nbytes for rows in batches) <= _SMALL_BYTES
        )

    def encode_all(self, batches: Iterable[pa.Table], *, is_small: bool = False) -> EncodedFile:
        """`batches` in order as one Parquet file; holds about one row group of them in memory."""
        sink = pa.BufferOutputStream()
        census = _Census(self._leaves, self._lists)
        with pq.ParquetWriter(
            sink,
            self.schema,
            compression="snappy" if is_small else "zstd",
            use_dictionary=not is_small,
            store_schema=False,
        ) as writer:
            for rows in _row_groups(batches):
                census.count(rows)
                writer.write_table(rows, row_group_size=_GROUP_ROWS_MAX)
        stats = self._stats(census, writer.writer.metadata)
        return EncodedFile(memoryview(sink.getvalue()), census.rows, stats)

    def _stats(self, census: _Census, footer: pq.FileMetaData) -> str:
        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        nulls: dict[str, Any] = dict(census.list_nulls)
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        for leaf in self._leaves:
            columns = [group.column(leaf.index) for group in groups]
            _put(nulls, leaf.path, sum(column.statistics.null_count for column in columns))
            if leaf.low is None or leaf.high is None or leaf.path in census.with_nan:
                continue
            if (found := _extremes(leaf, columns)) is not None:
                _put(low, leaf.path, leaf.low(found[0]))
                _put(high, leaf.path, leaf.high(found[1]))
        stats = {
            "numRecords": census.rows,
            "minValues": low,
            "maxValues": high,
            "nullCount": nulls,
        }
        return msgspec.json.encode(stats).decode()


class _Census:
    """What the footer does not tell: rows, nulls of lists, and which float columns have NaN."""

    def __init__(self, leaves: list[_Leaf], lists: list[str]) -> None:
        self.rows = 0
        self.list_nulls = dict.fromkeys(lists, 0)
        self.with_nan: set[tuple[str, ...]] = set()
        self._floats = [leaf.path for leaf in leaves if leaf.is_float]

    def count(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        for name in self.list_nulls:
            self.list_nulls[name] += rows[name].null_count
        self.with_nan.update(path for path in self._floats if _has_nan(rows, path))


def _row_groups(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """`batches` joined until they make a row group worth its own statistics and pages."""
    held: list[pa.Table] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _GROUP_ROWS_MAX or size >= _GROUP_BYTES:
            yield pa.concat_tables(held)
            held, rows, size = [], 0, 0
    if held:
        yield held[0] if len(held) == 1 else pa.concat_tables(held)


def _leaves(
    kind: pa.DataType, path: tuple[str, ...] | None
) -> Iterator[tuple[tuple[str, ...] | None, pa.DataType]]:
    """The Parquet columns below a type, in file order; no path for what lies within a list."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(field.type, None if path is None else (*path, field.name))
    elif pa.types.is_list(kind):
        yield from _leaves(kind.value_type, None)
    else:
        yield path, kind


def _extremes(leaf: _Leaf, columns: list[Any]) -> tuple[Any, Any] | None:
    """Least and greatest over row groups; None if a group with values has no bounds."""
    lows, highs = [], []
    for column in columns:
        statistics = column.statistics
        if statistics.has_min_max:
            lows.append(statistics.min if leaf.is_decimal else statistics.min_raw)
            highs.append(statistics.max if leaf.is_decimal else statistics.max_raw)
        elif statistics.null_count < column.num_values:
            return None
    return (min(lows), max(highs)) if lows else None


def _has_nan(rows: pa.Table, path: tuple[str, ...]) -> bool:
    """Footers leave NaN out of the bounds, but filters order it above every number."""
    column = rows[path[0]]
    for name in path[1:]:
        column = pc.struct_field(column, name)
    return pc.any(pc.is_nan(column)).as_py() is True


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    if value is None:
        return
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _bounds(
    kind: pa.DataType,
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | tuple[None, None]:
    """Functions from a raw footer value to the JSON value that is at most, at least, that."""
    types = pa.types
    if types.is_integer(kind):
        return int, int
    if types.is_floating(kind):
        return _finite, _finite
    if types.is_decimal(kind):
        return _decimal, _decimal
    if types.is_string(kind):
        return _text_low, _text_high
    if types.is_date(kind):
        return _date, _date
    if types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        return (lambda us: _time(us // 1000, zone)), (lambda us: _time(-(-us // 1000), zone))
    return None, None  # Binary and bool: no other writer gives bounds, so readers expect none.


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _decimal(value: Decimal) -> msgspec.Raw | None:
    if len(value.as_tuple().digits) > _DECIMAL_DIGITS_MAX:
        return None
    return msgspec.Raw(format(value, "f").encode())


def _text_low(raw: bytes) -> str:
    return raw.decode()[:_TEXT_MAX]


def _text_high(raw: bytes) -> str | None:
    text = raw.decode()
    if len(text) <= _TEXT_MAX:
        return text
    if text[_TEXT_MAX] == _LAST_CHARACTER:
        return None
    # Above every text that begins like the greatest and is not greater than it.
    return text[:_TEXT_MAX] + _LAST_CHARACTER


def _date(days: int) -> str | None:
    try:
        return (_EPOCH + datetime.timedelta(days=days)).date().isoformat()
    except OverflowError:
        return None


def _time(ms: int, zone: str) -> str | None:
    try:
        moment = _EPOCH + datetime.timedelta(milliseconds=ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds") + zone
