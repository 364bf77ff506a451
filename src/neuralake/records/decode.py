"""A request body becomes one envelope: rows of the declared schema as an Arrow IPC stream.

`Decoder` is where the content types meet. What comes out is what the table will hold, to the value:
empty strings in partition columns are already null, as Delta makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b

import pyarrow as pa

from neuralake.delta.partition import normalise
from neuralake.errors import TooLarge, UnsupportedMedia, UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.records.csv_body import csv_table
from neuralake.records.json_body import NDJSON, SMALL_BYTES, JsonReader
from neuralake.records.rows import Row
from neuralake.settings import IngestSettings

__all__ = [
    "ARROW",
    "CSV",
    "JSON",
    "MEDIA_TYPES",
    "NDJSON",
    "TSV",
    "Decoder",
    "Encoded",
    "encode",
    "reader_of",
]

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
TSV = "text/tab-separated-values"
MEDIA_TYPES = {
    JSON: JSON,
    NDJSON: NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
    ARROW: ARROW,
    CSV: CSV,
    TSV: TSV,
}
"""Media types that we read, and the reader of each."""

# Arrow stands for at most this many times the bytes of the body it came in; plain columns do not
# grow, and text that is repeated by a dictionary may, but not to fill the memory.
_EXPANSION_MAX = 8


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the queue stores."""

    payload: bytes
    rows: int
    fingerprint: bytes
    """Tells a request from another one under the same idempotency key."""


class Decoder:
    """Reads bodies for one table. Immutable; use it from any thread."""

    def __init__(
        self, schema: pa.Schema, *, name: str, partition_by: Sequence[str], limits: IngestSettings
    ) -> None:
        self._partition_by, self._limits = tuple(partition_by), limits
        self._json = json = JsonReader(schema, name=name, rows_max=limits.rows_max)
        arrow = ArrowReader(
            schema,
            name=name,
            rows_max=limits.rows_max,
            bytes_max=limits.body_bytes_max * _EXPANSION_MAX,
        )
        self._readers: dict[str, Callable[[bytes], pa.Table]] = {
            JSON: json.document,
            NDJSON: json.lines,
            ARROW: arrow.stream,
            CSV: partial(self._csv, schema, name, ","),
            TSV: partial(self._csv, schema, name, "\t"),
        }

    def rows(self, body: bytes, media_type: str) -> pa.Table:
        """The rows of `body`, at least one.

        Raises:
            UnsupportedMedia: we do not read `media_type`.
            InvalidRows, SchemaMismatch: a value or column does not fit; with `column`, and `row`.
            UsageError: the body cannot be read at all, or has no rows.
            TooLarge: more rows or partitions than the limit, or more bytes of text.
        """
        reader = reader_of(media_type)
        if reader != ARROW and len(body) > self._limits.json_bytes_max:
            raise _too_large(
                len(body), self._limits.json_bytes_max, "bytes of text", "in parts, or as Arrow"
            )
        table = self._readers[reader](body)
        if table.num_rows == 0:
            raise _no_rows()
        table = normalise(table, self._partition_by)
        self._check_partitions(table)
        return table

    def few(self, body: bytes, reader: str) -> list[Row] | None:
        """The rows of a small body of JSON one by one, for `joined`; None: read it as `envelope`.

        `reader` is what `reader_of` gave. Raises what `rows` does, except for what concerns
        partitions.
        """
        if reader not in (JSON, NDJSON) or len(body) > min(
            SMALL_BYTES, self._limits.json_bytes_max
        ):
            return None
        rows = self._json.few(body, lines=reader == NDJSON)
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
        return encode(normalise(self._json.table(rows), self._partition_by))

    def _csv(self, schema: pa.Schema, name: str, delimiter: str, body: bytes) -> pa.Table:
        limit = self._limits.rows_max
        return csv_table(body, schema, name=name, delimiter=delimiter, rows_max=limit)

    def _check_partitions(self, table: pa.Table) -> None:
        """Each partition of a request becomes a file, whose cost is not in its bytes."""
        limit = self._limits.partitions_max
        if not self._partition_by or table.num_rows <= limit:
            return
        found = table.group_by(self._partition_by).aggregate([]).num_rows
        if found > limit:
            raise _too_large(found, limit, "partitions", "in parts")

    def envelope(self, body: bytes, media_type: str, *, is_verbatim: bool = False) -> Encoded:
        """As `rows`, ready for the queue.

        `is_verbatim`: the sender repeats the very bytes, so that Arrow is told apart by them, too.
        """
        encoded = encode(self.rows(body, media_type))
        if media_type == ARROW and not is_verbatim:
            return encoded
        return replace(encoded, fingerprint=blake2b(body, digest_size=8).digest())


def _no_rows() -> UsageError:
    return UsageError("The body has no rows; send at least one.", reason="no rows")


def _too_large(found: int, limit: int, unit: str, how: str) -> TooLarge:
    return TooLarge(
        f"The body has {found} {unit}; the limit is {limit}. Send it {how}.",
        limit=limit,
        found=found,
        unit=unit,
    )


def encode(rows: pa.Table) -> Encoded:
    """`rows` as one Arrow IPC stream.

    Its fingerprint is the number of rows: the bytes of equal rows may differ from run to run, in
    what lies below nulls and in padding.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return Encoded(sink.getvalue().to_pybytes(), rows.num_rows, b"%d" % rows.num_rows)


# Errors are not kept, so what is has at most the spellings of what we know.
@lru_cache(maxsize=64)
def reader_of(content_type: str) -> str:
    """The media type among `JSON`, `NDJSON`, `ARROW`, `CSV` and `TSV` that reads `content_type`.

    Raises:
        UnsupportedMedia: there is none, or its charset is not UTF-8.
    """
    media_type, *parameters = [part.strip() for part in content_type.lower().split(";")]
    charsets = [p.removeprefix("charset=").strip('"') for p in parameters if p[:8] == "charset="]
    if media_type not in MEDIA_TYPES or not {*charsets} <= {"utf-8", "utf8"}:
        # What curl -d and HTML forms say of a body of which nothing was said.
        unsaid = media_type in ("", "application/x-www-form-urlencoded")
        what = "The request does not say what its body is." if unsaid else ""
        raise UnsupportedMedia(
            f"{what or f'The content type {content_type!r} is not one we read.'} Send a header "
            f"such as 'Content-Type: {JSON}' (curl -H 'Content-Type: {JSON}'). Known: "
            f"{', '.join(MEDIA_TYPES)}; text is UTF-8.",
            found=content_type,
            known=list(MEDIA_TYPES),
        )
    return MEDIA_TYPES[media_type]
