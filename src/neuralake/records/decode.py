"""A request body becomes one envelope: rows of the declared schema as an Arrow IPC stream.

`Decoder` is where the content types meet. What comes out is what the table will hold, to the value:
empty strings in partition columns are already null, as Delta makes them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from neuralake.delta.partition import normalise
from neuralake.errors import TooLarge, UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.records.csv_body import csv_new_columns, csv_pieces, csv_table
from neuralake.records.dropped import Dropped
from neuralake.records.encoded import Encoded, encode, encoded, signed
from neuralake.records.evolve import brought, inferred
from neuralake.records.json_body import SMALL_BYTES, JsonReader
from neuralake.records.media_types import (
    ARROW,
    CSV,
    DELIMITERS,
    FORMATS,
    JSON,
    NDJSON,
    PARQUET,
    TSV,
    reader_of,
)
from neuralake.records.parquet_body import ParquetReader
from neuralake.records.pieces import array_pieces, arrow_pieces, json_values, line_pieces
from neuralake.records.row_limit import RowLimit
from neuralake.records.rows import Row
from neuralake.records.rules import Rules, rules_of
from neuralake.records.salvage import (
    LetterLimits,
    is_misfit,
    salvage,
    whole_letter,
    without_broken,
)
from neuralake.schema import declare
from neuralake.settings import IngestSettings, Settings
from neuralake.tables import Definition, Stream

__all__ = ["SMALL_CELLS_MAX", "Decoder", "decoder_of"]

# Arrow and Parquet stand for at most this many times the largest body; plain columns do not grow,
# and what is compressed or repeated by a dictionary may, but not to fill the memory.
_EXPANSION_MAX = 8
SMALL_CELLS_MAX = 50_000
"""Most cells that small bodies may have, for they are read on the event loop: some 20 ms."""


class Decoder:
    """Reads bodies for one table. Immutable; use it from any thread.

    Args:
        dead_letters: rows that do not fit become dead letters, instead of errors (`envelope`).
        drops: columns that the schema has not are left out, instead of being errors.
        rules: what else rows must keep.
        evolved: columns of `schema` that came with rows and not by its definition.
        evolves: more may come, so that one that the schema has not may be null.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        name: str,
        partition_by: Sequence[str],
        limits: IngestSettings,
        dead_letters: bool = False,
        drops: bool = False,
        rules: Rules | None = None,
        evolved: Collection[str] = (),
        evolves: bool = False,
    ) -> None:
        self._partition_by, self._limits = tuple(partition_by), limits
        self._letter_limits = LetterLimits(limits.letters_max, limits.letter_bytes_max)
        self.dead_letters, self._rules = dead_letters, rules
        self._name, self._drops, self._evolves = name, drops, evolves
        self._schema, self._evolved = schema, frozenset(evolved)
        self._row_limit = RowLimit.of(schema, rows_max=limits.rows_max, cells_max=limits.cells_max)
        self._json = json = JsonReader(
            schema,
            name=name,
            rows_max=limits.rows_max,
            cells_max=limits.cells_max,
            drops=drops,
            loose=self._evolved,
            ignores_null=evolves,
        )
        self._columnar: dict[str, ArrowReader] = {
            kind: make(
                schema,
                name=name,
                rows_max=limits.rows_max,
                bytes_max=limits.body_bytes_max * _EXPANSION_MAX,
                drops=drops,
                ignores_null=evolves,
            )
            for kind, make in ((ARROW, ArrowReader), (PARQUET, ParquetReader))
        }
        self._readers: dict[str, Callable[..., pa.Table]] = {
            JSON: json.document,
            NDJSON: json.lines,
            **{kind: reader.stream for kind, reader in self._columnar.items()},
            **{kind: partial(self._csv, delimiter) for kind, delimiter in DELIMITERS.items()},
        }

    def rows(self, body: bytes, media_type: str, *, dropped: Dropped | None = None) -> pa.Table:
        """The rows of `body`, at least one.

        Args:
            dropped: counts the columns that are left out.

        Raises:
            UnsupportedMedia: we do not read `media_type`.
            InvalidRows, SchemaMismatch: a value or column does not fit; with `column`, and `row`.
            UsageError: the body cannot be read at all, or has no rows.
            TooLarge: more rows, cells or partitions than the limit, or more bytes of text.
        """
        return self._checked(self._read(body, reader_of(media_type), dropped))

    def _read(self, body: bytes, reader: str, dropped: Dropped | None) -> pa.Table:
        if reader not in self._columnar and len(body) > self._limits.json_bytes_max:
            raise _too_large(
                len(body), self._limits.json_bytes_max, "bytes of text", "in parts, or as Arrow"
            )
        table = self._readers[reader](body, dropped=dropped)
        if table.num_rows == 0:
            raise _no_rows()
        return table

    def _checked(self, table: pa.Table) -> pa.Table:
        """`table` itself, unless a partition column of it has an empty string."""
        table = normalise(table, self._partition_by)
        self._check_partitions(table)
        if self._rules is not None:
            self._rules.check(table)
        return table

    def is_small(self, body_bytes: int, reader: str) -> bool:
        """Whether a body is one for `few`, by what is known before it is there."""
        # Rules are about the rows of one request, and cost as much for one row as for many.
        return (
            reader in (JSON, NDJSON)
            and body_bytes <= min(SMALL_BYTES, self._limits.json_bytes_max)
            and self._rules is None
        )

    def cells(self, body: bytes) -> int:
        """The most cells that a body of JSON may have; a guess that takes no time."""
        return body.count(b"{") * self._row_limit.columns  # A row has one brace at least.

    def count(self, body: bytes, reader: str) -> int | None:
        """How many rows a small body has, for `quick`; None: only `few` can tell."""
        count = self._json.count(body, lines=reader == NDJSON)
        if count is None or not self._row_limit.fits(count):
            return None
        if count * self._row_limit.columns > SMALL_CELLS_MAX:
            return None
        if self._partition_by and count > self._limits.partitions_max:
            return None
        return count

    def quick(self, bodies: Sequence[bytes]) -> Encoded | None:
        """Many small bodies, each of which `count` has counted, as one envelope.

        Four times as quick as `few` and `joined`, for it reads them as one. None: one of them
        does not fit, or is unusual; those two tell which.
        """
        dropped = Dropped()
        table = self._json.joined(bodies, dropped=dropped)
        if table is None or dropped.rows:
            return None  # Each sender is told which of its columns were dropped.
        try:
            return encode(self._sent(normalise(table, self._partition_by)))
        except UsageError:
            return None

    def is_light(self, body: bytes, reader: str) -> bool:
        """Whether reading `body`, of some KiB, is sure to take little time and memory.

        `reader` is what `reader_of` gave.
        """
        if reader == ARROW:
            return self._columnar[ARROW].is_light(body)
        return reader != PARQUET  # A few bytes of it may stand for seconds of work.

    def few(self, body: bytes, reader: str, *, dropped: Dropped | None = None) -> list[Row] | None:
        """The rows of a small body of JSON one by one, for `joined`; None: read it as `envelope`.

        `reader` is what `reader_of` gave. Raises what `rows` does, except for what concerns
        partitions.
        """
        if not self.is_small(len(body), reader) or self.cells(body) > SMALL_CELLS_MAX:
            return None
        rows = self._json.few(body, lines=reader == NDJSON, dropped=dropped)
        if not rows:
            raise _no_rows()
        if self._partition_by and len(rows) > self._limits.partitions_max:
            return None  # Perhaps too many partitions: `rows` counts them.
        return rows

    def joined(self, rows: Sequence[Row]) -> Encoded:
        """Rows of one or more small bodies as one envelope.

        Raises:
            InvalidRows, SchemaMismatch: a row cannot be in any partition. Its number is that in
                `rows`: read one body alone to say it to a sender.
        """
        return encode(self._sent(normalise(self._json.table(rows), self._partition_by)))

    def _csv(self, delimiter: str, body: bytes, *, dropped: Dropped | None = None) -> pa.Table:
        return csv_table(
            body,
            self._schema,
            name=self._name,
            delimiter=delimiter,
            limit=self._row_limit,
            drops=self._drops,
            dropped=dropped,
            ignores_null=self._evolves,
        )

    def _check_partitions(self, table: pa.Table) -> None:
        """Each partition of a request becomes a file, whose cost is not in its bytes."""
        limit = self._limits.partitions_max
        if not self._partition_by or table.num_rows <= limit:
            return
        found = table.group_by(self._partition_by).aggregate([]).num_rows
        if found > limit:
            raise _too_large(found, limit, "partitions", "in parts")

    def envelope(
        self,
        body: bytes,
        media_type: str,
        *,
        source: str = "",
        is_signed: bool = True,
        is_verbatim: bool = False,
    ) -> Encoded:
        """As `rows`, ready for the queue; with `dead_letters` also what does not fit.

        Args:
            source: who sent it, for the letters.
            is_signed: the request may be sent again under its key or number. Without, the
                fingerprint tells nothing.
            is_verbatim: the sender repeats the very bytes: Arrow is told apart by them, too.
        """
        try:
            return self.whole(body, media_type, is_signed=is_signed, is_verbatim=is_verbatim)
        except UsageError as error:
            if not self.dead_letters or not is_misfit(error) or error.facts.get("reason") == _EMPTY:
                raise
            found = self._salvaged(body, reader_of(media_type), error, source)
            if not is_signed:
                return found
            return signed(found, body, media_type, is_verbatim=is_verbatim)

    def whole(
        self, body: bytes, media_type: str, *, is_signed: bool = True, is_verbatim: bool = False
    ) -> Encoded:
        """As `envelope`, without dead letters."""
        dropped, reader = Dropped(), reader_of(media_type)
        read = self._read(body, reader, dropped)
        table = self._sent(self._checked(read))
        # What came as we would write it is not written again.
        is_kept = reader == ARROW and table is read and self._columnar[ARROW].is_as_declared(body)
        found = encoded(body, table.num_rows) if is_kept else encode(table)
        found = replace(found, dropped=dropped)
        if not is_signed:
            return found
        return signed(found, body, media_type, is_verbatim=is_verbatim)

    def new_columns(self, body: bytes, media_type: str) -> dict[str, pa.DataType]:
        """Columns of `body` that are not in the schema and have a value, with types.

        Raises:
            UsageError: the body cannot be read so far.
        """
        reader = reader_of(media_type)
        if reader in self._columnar:
            return brought(self._columnar[reader].table(body), self._schema.names)
        if len(body) > self._limits.json_bytes_max:
            return {}  # It is refused.
        if reader in DELIMITERS:
            return csv_new_columns(body, self._schema, DELIMITERS[reader])
        pieces = (
            line_pieces(body, self._json)
            if reader == NDJSON
            else array_pieces(body, self._json) or line_pieces(body, self._json)
        )
        return inferred(json_values(pieces), self._schema.names)

    def _sent(self, table: pa.Table) -> pa.Table:
        """`table` without evolved columns that say nothing: they would be in each envelope."""
        names = [
            name
            for name in table.schema.names
            if name not in self._evolved or table[name].null_count < table.num_rows
        ]
        return table if len(names) == table.num_columns else table.select(names)

    def _salvaged(self, body: bytes, reader: str, error: UsageError, source: str) -> Encoded:
        """What can be kept of a body that raised `error`."""
        if reader in self._columnar:
            pieces = arrow_pieces(body, self._columnar[reader])
        elif reader == NDJSON:
            pieces = line_pieces(body, self._json)
        elif reader in (CSV, TSV):
            pieces = csv_pieces(
                body,
                partial(self._csv, DELIMITERS[reader]),
                DELIMITERS[reader],
                FORMATS[reader],
            )
        else:
            pieces = array_pieces(body, self._json)
        limits, empty = self._letter_limits, self._schema.empty_table()
        if pieces is None:
            letter = whole_letter(body, error, format=FORMATS[reader], limits=limits, source=source)
            return encode(empty, [letter])
        limit = self._row_limit
        if reader in self._columnar:
            limit = replace(limit, cells_max=sys.maxsize)  # Its bytes are bounded.
        limit.check(len(pieces))
        found = salvage(
            pieces,
            fit=lambda rows: normalise(rows, self._partition_by),
            limits=limits,
            source=source,
        )
        table = pa.concat_tables([empty, *found.tables])
        if self._rules is not None:
            table = without_broken(table, self._rules, pieces, found, limits=limits, source=source)
        self._check_partitions(table)
        return replace(encode(self._sent(table), found.letters), dropped=found.dropped)


def decoder_of(
    definition: Definition, settings: Settings, *, name: str, schema: pa.Schema | None = None
) -> Decoder:
    """The decoder of what is sent to `definition`, a stream table, with its policies.

    Args:
        schema: the declared one with more columns behind it, which came with rows.
    """
    assert definition.schema is not None  # noqa: S101 stream tables have one; for mypy
    stream = definition.stream or Stream()
    declared = declare(definition.schema)
    schema = schema or declared
    return Decoder(
        schema,
        name=name,
        partition_by=definition.partition_by,
        limits=settings.ingest,
        dead_letters=stream.on_invalid == "dead_letter",
        drops=stream.unknown_columns == "drop",
        rules=rules_of(definition, name=name),
        evolved=schema.names[len(declared) :],
        evolves=stream.evolves,
    )


_EMPTY = "no rows"


def _no_rows() -> UsageError:
    return UsageError("The body has no rows; send at least one.", reason=_EMPTY)


def _too_large(found: int, limit: int, unit: str, how: str) -> TooLarge:
    return TooLarge(
        f"The body has {found} {unit}; the limit is {limit}. Send it {how}.",
        limit=limit,
        found=found,
        unit=unit,
    )
