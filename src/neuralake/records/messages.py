"""Messages that others produced become rows of the declared schema, and none stops the rest.

Thousands are read at once: JSON messages are joined and read as one text. Only if that fails are
they read in ever smaller parts, down to the one that does not fit, which is rejected with its
reason; or, of one that has several rows, only those rows are. One value means the same as in a
request: the readers are the same. Tombstones, which have no value, are counted and give no rows.
"""

from __future__ import annotations

import base64
import json
import sys
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import itemgetter
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.delta.partition import normalise
from neuralake.errors import InvalidRows, TooLarge, UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.records.dropped import Dropped
from neuralake.records.evolve import brought, inferred
from neuralake.records.json_body import BLOCK_BYTES, JsonReader
from neuralake.records.letters import DeadLetter, reason_of
from neuralake.records.pieces import array_pieces, arrow_pieces, json_values, line_pieces
from neuralake.records.row_limit import RowLimit
from neuralake.records.rules import BrokenRule, Rules
from neuralake.records.salvage import LetterLimits, Pieces, salvage, without_broken

__all__ = ["Column", "MessageReader", "MessageRows", "SourceMessages"]

# Arrow in a message may stand for at most so much; a message of a broker's usual limit is 1 MB.
_ARROW_BYTES_MAX = 512 * 1024 * 1024
# In Python a value takes some 100 bytes, ten times those in Arrow; so portions become Arrow.
_VALUES_AT_ONCE = 500_000
_FIRST, _LAST = itemgetter(0), itemgetter(-1)


class SourceMessages(Protocol):
    """What is needed of the messages of a queue (`queue.protocol.Messages`)."""

    def __len__(self) -> int: ...
    def positions(self) -> list[int]: ...
    def values(self) -> list[bytes | None]: ...
    def keys(self) -> list[bytes | None]: ...
    def timestamps_ms(self) -> list[int | None]: ...
    def headers(self) -> list[list[tuple[str, bytes | None]]]: ...


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is not in the value: from `key`, `timestamp`, or the header named `header`."""

    name: str
    source: str
    header: str = ""


@dataclass(frozen=True, slots=True)
class MessageRows:
    """What some messages are."""

    rows: pa.Table
    rejected: list[DeadLetter] = field(default_factory=list)
    """With `position` of the message; those of one message follow one another."""
    tombstones: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    """Columns that were left out."""


class MessageReader:
    """Reads the messages of one topic. Use it from any thread.

    Args:
        format: `json`, `ndjson`, `arrow`, or `avro` and `protobuf`, which need `record`.
        columns: what comes with a message and not in its value.
        record: the row of one such message, as values of JSON (`scalars.parse_json`), and about
            how many values it has.
        keeps_rows: of a message with several rows, those that fit are kept, unless more than
            `letters_max` do not.
        drops: columns that the schema has not are left out of values.
        evolved: columns of `schema` that came with rows and not by its definition; None: none come.
        rules: what else rows must keep, each message by itself.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        name: str,
        partition_by: Sequence[str],
        format: str,
        rows_max: int,
        cells_max: int = sys.maxsize,
        columns: Sequence[Column] = (),
        record: Callable[[bytes], tuple[Any, int]] | None = None,
        keeps_rows: bool = False,
        drops: bool = False,
        evolved: Collection[str] | None = None,
        rules: Rules | None = None,
        letters_max: int = 1000,
    ) -> None:
        self._schema, self._partition_by, self._columns = schema, tuple(partition_by), columns
        taken = {column.name for column in columns}
        inner = pa.schema([found for found in schema if found.name not in taken])
        # Arrow is bounded by the bytes that it stands for.
        cells_max = sys.maxsize if format == "arrow" else cells_max
        self._row_limit = RowLimit.of(inner, rows_max=rows_max, cells_max=cells_max)
        # Of a table that takes new columns, one without a value is no column.
        evolves = {"drops": drops, "ignores_null": evolved is not None}
        self._json = JsonReader(
            inner,
            name=name,
            rows_max=rows_max,
            cells_max=cells_max,
            loose=evolved or (),
            **evolves,
        )
        self._arrow = ArrowReader(
            inner, name=name, rows_max=rows_max, bytes_max=_ARROW_BYTES_MAX, **evolves
        )
        self._record, self._format = record, format
        self._keeps_rows, self._rules = keeps_rows, rules
        # What a message may have the broker decides, and nobody is there to send it smaller.
        self._letter_limits = LetterLimits(letters_max, _ARROW_BYTES_MAX)
        self._values: Callable[[list[bytes], Dropped], tuple[pa.Table, list[int]]] = {
            "json": self._objects,
            "ndjson": self._lines,
            "arrow": self._streams,
            "avro": self._records,
            "protobuf": self._records,
        }[format]

    def read(self, messages: SourceMessages) -> MessageRows:
        """The rows of `messages`, in order, and those that give none."""
        values = messages.values()
        present: Sequence[int] = range(len(values))
        if None in values:
            present = [index for index, value in enumerate(values) if value is not None]
        work = _Work(values, messages)
        self._read(work, present)
        rows = pa.concat_tables([self._schema.empty_table(), *work.tables])
        return MessageRows(rows, work.rejected, len(values) - len(present), work.dropped)

    def new_columns(self, value: bytes) -> dict[str, pa.DataType]:
        """Columns of a message's `value`, or of one row of it, that the schema has not, with types.

        Those that have no value, or no type (objects and arrays), are none; nor is what cannot be
        read.
        """
        known = self._schema.names
        try:
            if self._format == "arrow":
                return brought(self._arrow.table(value), known)
            if self._record is not None:
                return inferred([self._record(value)[0]], known)
        except UsageError:
            return {}
        pieces = array_pieces(value, self._json) or line_pieces(value, self._json)
        return inferred(json_values(pieces), known)

    def _read(self, work: _Work, indexes: Sequence[int]) -> None:
        if not indexes:
            return
        dropped = Dropped()
        try:
            table, counts = self._whole(work, indexes, dropped)
        except (UsageError, _InParts) as error:
            if len(indexes) == 1:
                self._keep_or_reject(work, indexes[0], error, work.dropped)
                return
            middle = len(indexes) // 2
            self._read(work, indexes[:middle])
            self._read(work, indexes[middle:])
            return
        work.dropped.merge(dropped)
        self._keep(work, indexes, table, counts)

    def _keep(
        self, work: _Work, indexes: Sequence[int], table: pa.Table, counts: list[int]
    ) -> None:
        """Keep the rows of the messages at `indexes`, but where one breaks a rule."""
        broken = self._rules.failing(table) if self._rules is not None else []
        if not broken:
            work.tables.append(table)
            return
        ends, start = list(accumulate(counts)), 0
        firsts: dict[int, BrokenRule] = {}
        for one in broken:
            firsts.setdefault(bisect_right(ends, one.row), one)
        for at, one in firsts.items():
            begin = ends[at] - counts[at]
            work.tables.append(table.slice(start, begin - start))
            error = InvalidRows(one.reason, column=one.column, reason=one.reason)
            self._keep_or_reject(work, indexes[at], error, Dropped())  # They are counted.
            start = ends[at]
        work.tables.append(table.slice(start))

    def _whole(
        self, work: _Work, indexes: Sequence[int], dropped: Dropped
    ) -> tuple[pa.Table, list[int]]:
        table, counts = self._values(work.present(indexes), dropped)
        return self._completed(work, table, indexes, counts), counts

    def _completed(
        self, work: _Work, table: pa.Table, indexes: Sequence[int], counts: list[int]
    ) -> pa.Table:
        """`table` with what came beside the values of the messages at `indexes`."""
        if self._columns:
            found = {name: table[name] for name in table.column_names}
            for column in self._columns:
                target = self._schema.field(column.name)
                found[column.name] = _repeated(work.column(column, target, indexes), counts)
            table = pa.table([found[name] for name in self._schema.names], schema=self._schema)
        return normalise(table, self._partition_by)

    def _keep_or_reject(self, work: _Work, index: int, error: Exception, dropped: Dropped) -> None:
        """The message at `index` does not fit as a whole; `dropped` counts what is left out."""
        attached = work.attached(self._columns, index) if self._columns else None
        # One that is too large is so in parts, too, even if each of these is not.
        keeps_rows = self._keeps_rows and not isinstance(error, TooLarge)
        pieces = self._pieces(work.values[index] or b"") if keeps_rows else None
        if pieces is not None:
            try:
                self._row_limit.check(len(pieces))
                found = salvage(
                    pieces,
                    fit=lambda rows: self._completed(work, rows, [index], [rows.num_rows]),
                    limits=self._letter_limits,
                )
                rows = pa.concat_tables([self._schema.empty_table(), *found.tables])
                if self._rules is not None:
                    rows = without_broken(
                        rows, self._rules, pieces, found, limits=self._letter_limits
                    )
            except UsageError as too_many:
                error = too_many
            else:
                work.tables.append(rows)
                dropped.merge(found.dropped)
                work.reject(index, *(replace(each, attached=attached) for each in found.letters))
                return
        value, (reason, column) = work.values[index] or b"", reason_of(error)
        letter = DeadLetter(value, reason, column, format=self._format, attached=attached)
        work.reject(index, letter)

    def _pieces(self, value: bytes) -> Pieces | None:
        if self._format == "json":
            return array_pieces(value, self._json)
        if self._format == "ndjson":
            return line_pieces(value, self._json)
        return arrow_pieces(value, self._arrow) if self._format == "arrow" else None

    def _objects(self, values: list[bytes], dropped: Dropped) -> tuple[pa.Table, list[int]]:
        if len(values) == 1:
            table = self._json.document(values[0], dropped=dropped)
            return table, [table.num_rows]
        tables = []
        for part in _parts(values):
            table = self._json.lines(_joined(part), dropped=dropped)
            if table.num_rows != len(part):
                raise _InParts
            tables.append(table)
        return pa.concat_tables(tables), [1] * len(values)

    def _lines(self, values: list[bytes], dropped: Dropped) -> tuple[pa.Table, list[int]]:
        if len(values) == 1 or self._columns or self._rules is not None:
            if len(values) > 1:
                raise _InParts  # Whose row it is, is known for one message only.
            table = self._json.lines(values[0], dropped=dropped)
            return table, [table.num_rows]
        return self._json.lines(_joined(values), dropped=dropped), []

    def _streams(self, values: list[bytes], dropped: Dropped) -> tuple[pa.Table, list[int]]:
        tables = [self._arrow.stream(value, dropped=dropped) for value in values]
        return pa.concat_tables(tables), [table.num_rows for table in tables]

    def _records(self, values: list[bytes], dropped: Dropped) -> tuple[pa.Table, list[int]]:
        assert self._record is not None  # noqa: S101 whoever chose the format gave it
        read, tables, rows, held = self._record, [], [], 0
        for value in values:
            row, count = read(value)
            rows.append(row)
            held += count
            if held >= _VALUES_AT_ONCE:
                tables.append(self._json.rows(rows, dropped=dropped))
                rows, held = [], 0
        return pa.concat_tables([*tables, self._json.rows(rows, dropped=dropped)]), [1] * len(
            values
        )


class _InParts(Exception):
    """These cannot be read together."""


class _Work:
    """One read: what came, and what has become of it."""

    def __init__(self, values: list[bytes | None], messages: SourceMessages) -> None:
        self.values, self._messages = values, messages
        self.tables: list[pa.Table] = []
        self.rejected: list[DeadLetter] = []
        self.dropped = Dropped()
        self._positions: list[int] | None = None
        self._sources: dict[str, list[Any]] = {}

    def present(self, indexes: Sequence[int]) -> list[bytes]:
        """The values of the messages at `indexes`, which are no tombstones."""
        if len(indexes) == len(self.values):
            return self.values  # type: ignore[return-value]  # All, and none of them is None.
        return [
            self.values[index]  # type: ignore[misc]  # None of these is None.
            for index in indexes
        ]

    def reject(self, index: int, *letters: DeadLetter) -> None:
        if self._positions is None:
            self._positions = self._messages.positions()
        position = self._positions[index]
        self.rejected += [replace(letter, position=position) for letter in letters]

    def attached(self, columns: Sequence[Column], index: int) -> str:
        """What came beside the value of the message at `index` and has a column, as JSON."""
        found = {column.source: self._source(column)[index] for column in columns}
        if "key" in found:
            found["key"] = _base64(found["key"])
        if "header" in found:
            names = {column.header for column in columns}
            found["header"] = {n: _base64(v) for n, v in found["header"].items() if n in names}
        return json.dumps(found)

    def column(self, column: Column, target: pa.Field, indexes: Sequence[int]) -> pa.Array:
        """One value for each of the messages at `indexes`."""
        found = [self._source(column)[index] for index in indexes]
        if column.source == "header":
            found = [headers.get(column.header) for headers in found]
        if not target.nullable and None in found:
            raise _unfit(column, "it is not nullable, but the message has none")
        try:
            if column.source == "timestamp":
                times = pa.array(found, pa.timestamp("ms", tz="UTC"))
                # A column without a zone holds the same time of day in UTC.
                return times.cast(pa.timestamp("us", tz="UTC")).cast(target.type)
            if pa.types.is_binary(target.type) or pa.types.is_large_binary(target.type):
                return pa.array(found, target.type)
            return pa.array([None if v is None else v.decode() for v in found], target.type)
        except (UnicodeDecodeError, pa.ArrowException) as error:
            raise _unfit(column, f"it is not {target.type}") from error

    def _source(self, column: Column) -> list[Any]:
        if column.source not in self._sources:
            columns: dict[str, Callable[[], list[Any]]] = {
                "key": self._messages.keys,
                "timestamp": self._messages.timestamps_ms,
                "header": lambda: [dict(found) for found in self._messages.headers()],
            }
            self._sources[column.source] = columns[column.source]()
        return self._sources[column.source]


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _unfit(column: Column, reason: str) -> InvalidRows:
    source = f"header {column.header!r}" if column.source == "header" else column.source
    return InvalidRows(
        f"The message's {source}, column {column.name!r}: {reason}.",
        column=column.name,
        reason=f"the message's {source}: {reason}",
    )


def _repeated(values: pa.Array, counts: list[int]) -> pa.Array:
    """Each value as often as its message has rows."""
    if all(count == 1 for count in counts):
        return values
    indexes = [index for index, count in enumerate(counts) for _ in range(count)]
    return pc.take(values, pa.array(indexes, pa.int64()))


def _parts(values: list[bytes]) -> list[list[bytes]]:
    """The values in equal parts that mostly fit a block of the reader's, which is not cut then."""
    count = -(-len(values) // (sum(map(len, values)) // BLOCK_BYTES + 1))
    return [values[first : first + count] for first in range(0, len(values), count)]


def _joined(values: list[bytes]) -> bytes:
    """The values as lines, if no line of them can be part of two messages.

    A value that begins with `{` and ends with `}` may still not be JSON by itself, but then it is
    none together with what follows either: between two values stands `}`, a line break and `{`,
    which no JSON value has inside.
    """
    if not _are_objects(values):
        values = [value.strip(b" \t\r\n") for value in values]
        if not _are_objects(values):
            raise _InParts
    return b"\n".join(values)


def _are_objects(values: list[bytes]) -> bool:
    return (
        all(values)
        and set(map(_FIRST, values)) == {ord("{")}
        and set(map(_LAST, values)) == {ord("}")}
    )
