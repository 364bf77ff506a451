"""Frames that hold every acknowledged row of a stream table, each once, at the moment of `collect`.

A live frame is the table's snapshot plus the queue's tail behind the position that the snapshot's
`txn` action names. Both are read when the frame is collected. Filters and columns reach the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from neuralake import delta
from neuralake.filters import Filters, expression
from neuralake.frame import NlkDataFrame, scan_snapshot
from neuralake.frame.delta import open_place
from neuralake.frame.frame import as_frame
from neuralake.live.tail import existing, lazy_rows, together
from neuralake.queue import QueueReader
from neuralake.records.envelopes import EnvelopeReader
from neuralake.schema import polars_schema
from neuralake.storage import LogStore

__all__ = ["live_frame"]


def live_frame(
    at: str | Callable[[], LogStore],
    schema: pa.Schema,
    queue: Callable[[], QueueReader],
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
        Unavailable: the queue or the store does not answer.
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


def _parts(
    store: LogStore, schema: pa.Schema, queue: QueueReader, topic: str, reader: EnvelopeReader
) -> list[pl.LazyFrame]:
    """The committed part and the tail, which together hold each row once."""
    snapshot, tail = together(
        queue, topic, schema, lambda: existing(lambda: delta.snapshot(store)), reader=reader
    )
    parts: list[pl.LazyFrame] = []
    if snapshot is not None:
        parts.append(scan_snapshot(snapshot, schema, name=topic))
    if tail.num_rows:
        parts.append(lazy_rows(tail))
    return parts
