"""Frames that hold every acknowledged row of a stream table, each once, at the moment of `collect`.

A live frame is the table's snapshot plus the queue's tail behind the position that the snapshot's
`txn` action names. Both are read when the frame is collected: the snapshot first, so that a row
which the writer commits in between is in the tail and not yet in the snapshot. If the queue was
trimmed past the snapshot, a newer snapshot is taken. Filters and columns reach the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from neuralake import delta
from neuralake.errors import Trimmed, UnknownName
from neuralake.filters import Filters, expression
from neuralake.frame import NlkDataFrame, scan_snapshot
from neuralake.frame.delta import open_place
from neuralake.frame.frame import as_frame
from neuralake.queue import Queue
from neuralake.queue.topic import app_id
from neuralake.records.envelopes import EnvelopeReader
from neuralake.schema import conform, polars_schema
from neuralake.storage import LogStore

__all__ = ["live_frame", "read_tail"]

# Each retry takes a newer snapshot, which the grace time of trimming lets succeed; more than a few
# mean that trimming runs without grace.
_TRIES_MAX = 5
_ROWS_PER_PAGE_BYTES = 64 * 1024 * 1024


def live_frame(
    at: str | Callable[[], LogStore],
    schema: pa.Schema,
    queue: Callable[[], Queue],
    topic: str,
    filters: Filters = (),
    *,
    reader: EnvelopeReader | None = None,
) -> NlkDataFrame:
    """A lazy frame of every row that was acknowledged when it is collected.

    Args:
        at: the table's address, or what gives its store.
        queue: called at `collect`, as `at` is: making the frame does no I/O.
        reader: what makes rows of envelopes; default: of those that ingest made.

    Raises (at collect):
        Trimmed: the queue is trimmed faster than the table's snapshots can be opened.
    """
    columns = polars_schema(schema)
    reader = reader or EnvelopeReader(schema)

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 Polars passes it by position; a hint we do not need
    ) -> Iterator[pl.DataFrame]:
        remaining = n_rows
        for part in _parts(open_place(at), schema, queue(), topic, reader):
            chosen = part if predicate is None else part.filter(predicate)
            if with_columns is not None:
                chosen = chosen.select(with_columns)
            if remaining is not None:
                chosen = chosen.head(remaining)
            frame = chosen.collect()
            yield frame
            if remaining is not None:
                remaining -= frame.height
                if remaining <= 0:
                    return

    frame = as_frame(register_io_source(source, schema=columns, validate_schema=True))
    return as_frame(frame.filter(expression(filters, schema, name=topic))) if filters else frame


def read_tail(
    queue: Queue,
    partition: str,
    *,
    after: int,
    schema: pa.Schema,
    reader: EnvelopeReader | None = None,
) -> pa.Table:
    """The rows of `partition` behind position `after` that were acknowledged when this was called.

    Raises:
        Trimmed: the queue no longer keeps everything behind `after`.
        NeedsAttention: an envelope is damaged.
        SchemaMismatch: rows do not fit `schema`, which was changed since.
    """
    last = queue.bounds(partition).last  # A busy topic has no end; this call does.
    reader = reader or EnvelopeReader(schema)
    tables = [schema.empty_table()]
    position = after
    while True:
        page = queue.read(partition, after=position, bytes_max=_ROWS_PER_PAGE_BYTES)
        # Messages are read as a whole: the last ones may be newer than this call.
        acknowledged = [
            envelope
            for envelope in page
            if envelope.position <= last or envelope.messages is not None
        ]
        if acknowledged:
            # Rows from before a nullable column was added to the definition have it as null.
            tables.append(conform(reader.read(acknowledged).rows, schema, name=partition))
        if not page or page[-1].position >= last:
            return pa.concat_tables(tables)
        position = page[-1].position


def _parts(
    store: LogStore, schema: pa.Schema, queue: Queue, topic: str, reader: EnvelopeReader
) -> list[pl.LazyFrame]:
    """The committed part and the tail, which together hold each row once."""
    for left in reversed(range(_TRIES_MAX)):
        # What is trimmed was committed before. Asked before the snapshot, so that rows which are
        # committed and trimmed in between raise `Trimmed` below instead of being in neither part.
        partitions = queue.partitions(topic)
        trimmed = {partition: queue.bounds(partition).trimmed for partition in partitions}
        snapshot = _snapshot(store)
        tails = [schema.empty_table()]
        try:
            for partition in partitions:
                committed = snapshot.txn(app_id(queue.id, partition)) if snapshot else None
                # Without a txn of this queue the table is new: it never held what was trimmed.
                after = trimmed[partition] if committed is None else committed
                tails.append(read_tail(queue, partition, after=after, schema=schema, reader=reader))
        except Trimmed:
            if not left:
                raise
            continue
        parts: list[pl.LazyFrame] = []
        if snapshot is not None:
            parts.append(scan_snapshot(snapshot, schema, name=topic))
        tail = pa.concat_tables(tails)
        if tail.num_rows:
            rows = pl.from_arrow(tail)
            assert isinstance(rows, pl.DataFrame)  # noqa: S101 a table is never a Series; for mypy
            parts.append(rows.lazy())
        return parts
    raise AssertionError("unreachable")


def _snapshot(store: LogStore) -> delta.Snapshot | None:
    try:
        return delta.snapshot(store)
    except UnknownName as error:
        if error.kind != "table":
            raise
        return None  # Nobody has written it yet: all its rows are in the queue.
