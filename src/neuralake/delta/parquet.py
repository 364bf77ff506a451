"""Rows to a Parquet file, and its statistics as the Delta log keeps them.

Section "Per-file Statistics" of the Delta protocol. The promise: a reader that skips files by these
statistics never misses a row. So bounds only ever widen (times outwards to milliseconds, long
strings to a prefix above or below), and where a sound bound is uncertain (NaN, infinities,
years beyond 9999) there is none. Minima and maxima come from the footer, where the
writer has them already, except of floats: footers leave NaN out of their bounds, and readers that
order NaN above every number then skip row groups wrongly. So floats have none in the footer.
"""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuralake.delta.dictionaries import Dictionaries, has_text
from neuralake.storage import Sink

__all__ = ["EncodedFile", "Encoder", "Indexed"]

_TEXT_MAX = 32
# Parquet C++ leaves out a bound of more than 4,096 bytes.
_FOOTER_TEXT_BYTES_MAX = 4000
# A float64 holds 15 decimal digits exactly, and readers may take JSON numbers as float64.
_DECIMAL_DIGITS_MAX = 15
# Below this, zstd's set-up and dictionary pages cost more time than they save.
_SMALL_BYTES = 64 * 1024
# Numbers and times that grow or stay in a range: against a dictionary it is written four times as
# quickly, read more than twice as quickly, and smaller. Spark reads it from 3.3 on.
_DELTAS = "DELTA_BINARY_PACKED"
# Texts that do not repeat: their lengths aside they compress better by a twentieth.
_LENGTHS = "DELTA_LENGTH_BYTE_ARRAY"
_GROUP_ROWS_MAX = 1024 * 1024
_GROUP_BYTES = 128 * 1024 * 1024
_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 zone is written out by hand below
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """What the log says of a file that was encoded."""

    bytes: int
    rows: int
    stats: str
    """JSON: numRecords, minValues, maxValues, nullCount."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """Which columns have statistics: more would bloat the log of wide tables."""

    leaves_max: int = 32
    """The first so many leaves of the schema; -1: all."""
    paths: tuple[tuple[str, ...], ...] | None = None
    """Instead: these columns and fields, with what is in them."""

    def has(self, path: tuple[str, ...], before: int) -> bool:
        """Whether `path` is among them, when `before` columns are already."""
        if self.paths is not None:
            return any(path[: len(named)] == named for named in self.paths)
        return self.leaves_max < 0 or before < self.leaves_max


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A Parquet column: its place in the file, and where its statistics go."""

    index: int
    path: tuple[str, ...]
    low: Callable[[Any], Any] | None
    high: Callable[[Any], Any] | None
    is_float: bool
    is_decimal: bool
    is_text: bool


class Encoder:
    """Encodes rows of one schema (that of the files, so without partition columns)."""

    def __init__(
        self,
        schema: pa.Schema,
        indexed: Indexed | None = None,
        *,
        label: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    ) -> None:
        """`label` gives rows the names of `schema` (column mapping)."""
        self.schema = schema
        self._label = label
        indexed = indexed or Indexed()
        self._leaves: list[_Leaf] = []
        self._lists: list[str] = []
        self._with_footer: list[str] = []
        self._encodings: dict[str, str] = {}
        # Places of the columns with texts in them.
        self._texts: list[int] = []
        index = 0
        for place, field in enumerate(schema):
            if pa.types.is_list(field.type) and indexed.has((field.name,), len(self._lists)):
                self._lists.append(field.name)
            for path, kind, column in _leaves(field.type, (field.name,), field.name):
                if not pa.types.is_floating(kind):
                    self._with_footer.append(column)
                if has_text(kind):
                    self._encodings[column] = _LENGTHS
                    if place not in self._texts:
                        self._texts.append(place)
                elif pa.types.is_integer(kind) or pa.types.is_temporal(kind):
                    self._encodings[column] = _DELTAS
                if path is not None and indexed.has(path, len(self._leaves)):
                    low, high = _bounds(kind)
                    is_float = pa.types.is_floating(kind)
                    is_decimal = pa.types.is_decimal(kind)
                    is_text = pa.types.is_string(kind)
                    self._leaves.append(
                        _Leaf(index, path, low, high, is_float, is_decimal, is_text)
                    )
                index += 1

    def encode(self, rows: pa.Table) -> tuple[EncodedFile, memoryview]:
        """`rows`, which have this encoder's columns, as one Parquet file in memory."""
        sink = pa.BufferOutputStream()
        file = self._encode(sink, [rows], is_small=rows.nbytes <= _SMALL_BYTES)
        return file, memoryview(sink.getvalue())

    def encode_into(self, sink: Sink, batches: Iterable[pa.Table]) -> EncodedFile:
        """Write `batches` in order as one Parquet file; holds one row group of them in memory."""
        return self._encode(pa.PythonFile(_Stream(sink), mode="w"), batches, is_small=False)

    def _encode(
        self, sink: pa.NativeFile, batches: Iterable[pa.Table], *, is_small: bool
    ) -> EncodedFile:
        census = _Census(self._leaves, self._lists)
        groups = _row_groups(map(self._label, batches))
        first = next(groups, self.schema.empty_table())
        dictionaries = Dictionaries()
        if not is_small and self._texts:
            dictionaries = Dictionaries.chosen(first, self._texts)
        encodings = {
            column: encoding
            for column, encoding in self._encodings.items()
            if column not in dictionaries.paths
        }
        with pq.ParquetWriter(
            sink,
            dictionaries.schema(self.schema),
            compression="snappy" if is_small else "zstd",
            use_dictionary=[*dictionaries.paths],
            column_encoding=None if is_small else encodings,
            store_schema=False,
            write_statistics=self._with_footer,
        ) as writer:
            for rows in chain([first], groups):
                census.count(rows)
                numbered = dictionaries.rows(rows, is_first=rows is first)
                writer.write_table(numbered, row_group_size=_GROUP_ROWS_MAX)
        stats = self._stats(census, writer.writer.metadata)
        return EncodedFile(sink.tell(), census.rows, stats)

    def _stats(self, census: _Census, footer: pq.FileMetaData) -> str:
        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        nulls: dict[str, Any] = dict(census.list_nulls)
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        for leaf in self._leaves:
            columns = [group.column(leaf.index) for group in groups]
            if leaf.is_float:
                found = census.floats[leaf.path].extremes()
                _put(nulls, leaf.path, census.floats[leaf.path].nulls)
            else:
                found = _extremes(leaf, columns, census.long_texts.get(leaf.path, []))
                _put(nulls, leaf.path, _null_count(columns))
            if found is not None and leaf.low is not None and leaf.high is not None:
                _put(low, leaf.path, leaf.low(found[0]))
                _put(high, leaf.path, leaf.high(found[1]))
        stats = {
            "numRecords": census.rows,
            "minValues": low,
            "maxValues": high,
            "nullCount": nulls,
        }
        return msgspec.json.encode(stats).decode()


class _Stream(io.RawIOBase):
    """A sink as Arrow wants a file: it asks for the place, and never goes back."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._place = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._sink.write(data)
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place


class _Census:
    """What the footer does not tell: rows, nulls of lists, and all about float columns."""

    def __init__(self, leaves: list[_Leaf], lists: list[str]) -> None:
        self.rows = 0
        self.list_nulls = dict.fromkeys(lists, 0)
        # The extremes, as bytes, of batches with texts too long for the footer.
        self.long_texts: dict[tuple[str, ...], list[bytes]] = {}
        self._texts = [leaf.path for leaf in leaves if leaf.is_text]
        self.floats = {leaf.path: _Floats() for leaf in leaves if leaf.is_float}

    def count(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        for name in self.list_nulls:
            self.list_nulls[name] += rows[name].null_count
        for path, floats in self.floats.items():
            floats.count(_column(rows, path))
        for path in self._texts:
            column = _column(rows, path)
            if (pc.max(pc.binary_length(column)).as_py() or 0) > _FOOTER_TEXT_BYTES_MAX:
                bounds = pc.min_max(column).as_py().values()
                self.long_texts.setdefault(path, []).extend(text.encode() for text in bounds)


def _column(rows: pa.Table, path: tuple[str, ...]) -> pa.ChunkedArray:
    column = rows[path[0]]
    for name in path[1:]:
        column = pc.struct_field(column, name)
    return column


class _Floats:
    """Nulls and bounds of a float column."""

    def __init__(self) -> None:
        self.nulls = 0
        self._has_nan = False
        self._low = math.inf
        self._high = -math.inf

    def count(self, column: pa.ChunkedArray) -> None:
        self.nulls += column.null_count
        self._has_nan = self._has_nan or pc.any(pc.is_nan(column)).as_py() is True
        bounds = pc.min_max(column)
        if (low := bounds["min"].as_py()) is not None:
            self._low = min(self._low, low)
            self._high = max(self._high, bounds["max"].as_py())

    def extremes(self) -> tuple[float, float] | None:
        """Least and greatest; None if there is a NaN, or no value at all."""
        if self._has_nan or self._low > self._high:
            return None
        # Some readers order -0.0 below 0.0, others hold them equal: the bounds suit both.
        return self._low or -0.0, self._high or 0.0


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
    kind: pa.DataType, path: tuple[str, ...] | None, column: str
) -> Iterator[tuple[tuple[str, ...] | None, pa.DataType, str]]:
    """The Parquet columns below a type, in file order: path (none within a list), type, name."""
    if pa.types.is_struct(kind):
        for field in kind:
            below = None if path is None else (*path, field.name)
            yield from _leaves(field.type, below, f"{column}.{field.name}")
    elif pa.types.is_list(kind):
        yield from _leaves(kind.value_type, None, f"{column}.list.element")
    else:
        yield path, kind, column


def _extremes(leaf: _Leaf, columns: list[Any], known: list[Any]) -> tuple[Any, Any] | None:
    """Least and greatest over row groups and `known` values; None if a bound is missing.

    `known` are the extremes of groups whose texts are too long for the footer.
    """
    lows, highs = [*known], [*known]
    for column in columns:
        statistics = column.statistics
        if statistics is None:
            if column.num_values and not known:
                return None
        elif statistics.has_min_max:
            lows.append(statistics.min if leaf.is_decimal else statistics.min_raw)
            highs.append(statistics.max if leaf.is_decimal else statistics.max_raw)
        elif statistics.null_count < column.num_values and not known:
            return None
    return (min(lows), max(highs)) if lows else None


def _null_count(columns: list[Any]) -> int | None:
    """Nulls over row groups; None if a group with values does not say."""
    found = [column.statistics for column in columns if column.num_values]
    # Not `None in found`: pyarrow's Statistics compare with None by crashing the process (26.0.1).
    if any(statistics is None for statistics in found):
        return None
    return sum(int(statistics.null_count) for statistics in found)


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
    if types.is_boolean(kind):
        return bool, bool
    if types.is_floating(kind):
        return _finite, _finite
    if types.is_decimal(kind):
        return (lambda value: _decimal(value, ROUND_FLOOR)), (
            lambda value: _decimal(value, ROUND_CEILING)
        )
    if types.is_string(kind):
        return _text_low, _text_high
    if types.is_date(kind):
        return _date, _date
    if types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        return (lambda us: _time(us // 1000 * 1000, zone)), (
            # The last millisecond of year 9999, a common "never", has no next one.
            lambda us: _time(-(-us // 1000) * 1000, zone) or _time(us, zone)
        )
    return None, None  # Binary: no other writer gives bounds, so readers expect none.


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _decimal(value: Decimal, rounding: str) -> msgspec.Raw:
    rounded = Context(prec=_DECIMAL_DIGITS_MAX, rounding=rounding).plus(value)
    return msgspec.Raw(format(rounded, "f").encode())


def _text_low(raw: bytes) -> str:
    return raw.decode()[:_TEXT_MAX]


def _text_high(raw: bytes) -> str:
    text = raw.decode()
    # A prefix and the last character are above every text that begins so and is not greater than
    # this one, unless the next character is the last one itself.
    for end in range(_TEXT_MAX, len(text)):
        if text[end] != _LAST_CHARACTER:
            return text[:end] + _LAST_CHARACTER
    return text


def _date(days: int) -> str | None:
    try:
        return (_EPOCH + datetime.timedelta(days=days)).date().isoformat()
    except OverflowError:
        return None


def _time(us: int, zone: str) -> str | None:
    try:
        moment = _EPOCH + datetime.timedelta(microseconds=us)
    except OverflowError:
        return None
    return moment.isoformat(timespec="microseconds" if us % 1000 else "milliseconds") + zone
