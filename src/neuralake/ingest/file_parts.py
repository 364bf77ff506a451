"""Cut a file's rows into the parts that go as one request each, and give each part its key.

A key is made of the table and of all rows from the beginning of the file to the end of the part.
So the same rows get the same keys whatever the file is called and whatever follows them: a file
that was mended or has grown is told from another one at the first row that differs, and what is
before it is known. Rows of two files that only look alike further on have different keys.

Pure: what was cut before comes in as `Known`, which decides where parts end, so that the short
last part of a file is recognised in the middle of what the file has grown to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from neuralake.records.encoded import encode

__all__ = ["PAYLOAD_BYTES_MAX", "FilePart", "Known", "RowSource", "beginning", "cut"]

PAYLOAD_BYTES_MAX = 16 * 1024 * 1024
"""A part of more than one row is at most about this large: well below what a server takes."""


@dataclass(frozen=True, slots=True)
class Known:
    """A part of an earlier transfer."""

    rows: int
    key: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """What one request carries."""

    first_row: int
    rows: int
    payload: bytes
    key: str
    bytes_read: int
    """Bytes of the file that were read up to here."""
    known: bool
    """The earlier transfer had it too."""


class RowSource:
    """Rows of one table to take from, as many at a time as one likes."""

    def __init__(self, tables: Iterator[tuple[pa.Table, int]], schema: pa.Schema) -> None:
        self._tables = tables
        self._kept = schema.empty_table()
        self.bytes_read = 0

    def peek(self, rows: int) -> pa.Table:
        """The next `rows`, or fewer at the end; they stay."""
        while self._kept.num_rows < rows:
            table, self.bytes_read = next(self._tables, (None, self.bytes_read))
            if table is None:
                break
            self._kept = pa.concat_tables([self._kept, table])
        return self._kept.slice(0, rows)

    def drop(self, rows: int) -> None:
        """Go on behind the next `rows`."""
        self._kept = self._kept.slice(rows)


def beginning(source: RowSource, *, topic: str) -> str | None:
    """A name for files that begin with the same row; None if there is no row."""
    first = source.peek(1)
    return _key(topic, _payload(first)) if first.num_rows else None


def cut(
    source: RowSource,
    *,
    topic: str,
    salt: str,
    known: Sequence[Known] = (),
    batch_rows: int,
    bytes_max: int = PAYLOAD_BYTES_MAX,
) -> Iterator[FilePart]:
    """The rows of `source` in parts of at most `batch_rows`.

    The parts of `known` come first, as far as their keys are those of the rows.

    Args:
        salt: another one gives other keys to the same rows.
    """
    first_row, key = 0, _key(topic, salt.encode())
    for part in known:
        rows = source.peek(part.rows)
        payload = _payload(rows)
        if rows.num_rows != part.rows or _key(key, payload) != part.key:
            break
        key = part.key
        yield FilePart(first_row, part.rows, payload, key, source.bytes_read, known=True)
        source.drop(part.rows)
        first_row += part.rows
    while (batch := source.peek(batch_rows)).num_rows:
        for payload, rows in _pieces(batch, bytes_max):
            key = _key(key, payload)
            yield FilePart(first_row, rows, payload, key, source.bytes_read, known=False)
            first_row += rows
        source.drop(batch.num_rows)


def _pieces(batch: pa.Table, bytes_max: int) -> Iterator[tuple[bytes, int]]:
    """The batch as one payload, or as several of equal rows if it is too large for one."""
    whole = _payload(batch)
    count = min(-(-len(whole) // bytes_max), batch.num_rows)
    if count == 1:
        yield whole, batch.num_rows
        return
    step = -(-batch.num_rows // count)
    for at in range(0, batch.num_rows, step):
        piece = batch.slice(at, step)
        yield _payload(piece), piece.num_rows


def _payload(rows: pa.Table) -> bytes:
    # Equal rows, equal bytes: taken one by one into fresh memory, they carry nothing of their
    # neighbours in the last bits, below nulls, or as borders of the blocks they were read in.
    fresh = rows.combine_chunks().take(pa.array(range(rows.num_rows), pa.int64()))
    return encode(fresh).payload


def _key(before: str, content: bytes) -> str:
    digest = hashlib.blake2b(before.encode() + b"\0", digest_size=20)
    digest.update(content)
    return digest.hexdigest()
