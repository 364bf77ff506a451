"""The queue's tail: rows that were acknowledged, and that a snapshot does not hold yet.

Snapshot and tail together hold each row once: the snapshot is taken first, so that a row which the
writer commits in between is in the tail and not yet in the snapshot. If the queue was trimmed past
the snapshot, a newer snapshot is taken. Frames, SQL and the server's tail read the queue here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from neuralake.delta import Snapshot
from neuralake.errors import Conflict, TooLarge, UnknownName
from neuralake.queue import QueueReader
from neuralake.queue.protocol import READ_BYTES_MAX
from neuralake.queue.topic import app_id
from neuralake.records.envelopes import EnvelopeReader
from neuralake.schema import conform, with_more

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LONG_POLL_S", "TailPage", "existing", "lazy_rows", "read_page", "read_tail", "together"]

LONG_POLL_S = 2.0
"""A server answers sooner if a row comes; a thread that nobody waits for any more ends by then."""

# Each retry takes a newer snapshot, which the grace time of trimming lets succeed; more than a few
# mean that trimming runs without grace.
_TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class TailPage:
    """Rows of one partition behind a position; none, if that position only moved on."""

    position: int
    """Of the last envelope: what comes next is behind it."""
    rows: pa.Table
    """In the declared schema."""
    appended_s: float
    """When the first envelope was stored, as it says."""


def read_page(
    queue: QueueReader,
    partition: str,
    *,
    after: int,
    schema: pa.Schema,
    reader: EnvelopeReader | None = None,
    into: Callable[[], pa.Schema | None] = lambda: None,
    bytes_max: int = READ_BYTES_MAX,
) -> TailPage | None:
    """The next rows behind `after`, in whole envelopes; None if there are none.

    Args:
        schema: the columns that are wanted, of those that the table has.
        into: gives the columns of the table as it is now, asked only if there is something: of a
            table that takes new columns they say which rows fit. None: the declared ones do.
        bytes_max: bounds what is read of the queue, except that one envelope is always given.

    Raises:
        Trimmed: the queue no longer keeps everything behind `after`.
        NeedsAttention: an envelope is damaged.
        SchemaMismatch: rows do not fit `schema`, which was changed since.
    """
    envelopes = queue.read(partition, after=after, bytes_max=bytes_max)
    if not envelopes:
        return None
    reader = reader or EnvelopeReader(schema)
    rows = reader.read(envelopes, into=into()).rows
    if reader.evolves:  # What no commit has brought into the table yet is no column.
        rows = rows.select([name for name in schema.names if name in rows.schema.names])
    # Rows from before a nullable column was added to the definition have it as null.
    # In one piece: a thousand envelopes of a row each are slower to use than to copy.
    rows = conform(rows, schema, name=partition).combine_chunks()
    return TailPage(envelopes[-1].position, rows, envelopes[0].appended_s)


def read_tail(
    queue: QueueReader,
    partition: str,
    *,
    after: int,
    schema: pa.Schema,
    reader: EnvelopeReader | None = None,
    into: Callable[[], pa.Schema | None] = lambda: None,
    bytes_max: int | None = None,
) -> pa.Table:
    """Every row of `partition` behind `after` that was acknowledged when this was called.

    Envelopes are taken as they come, so the last rows may be newer than the call.

    Raises:
        TooLarge: the rows take more than `bytes_max` bytes of memory.
        Trimmed, NeedsAttention, SchemaMismatch: as `read_page`.
    """
    last = queue.bounds(partition).last  # A busy topic has no end; this call does.
    tables, position, size = [schema.empty_table()], after, 0
    while position < last:
        page = read_page(queue, partition, after=position, schema=schema, reader=reader, into=into)
        if page is None:
            break
        tables.append(page.rows)
        position, size = page.position, size + page.rows.nbytes
        if bytes_max is not None and size > bytes_max:
            raise TooLarge(
                f"More than {bytes_max} bytes of {partition!r} wait in the queue for their commit. "
                f"Is the writer running? Without live only what is committed is read.",
                limit=bytes_max,
                found=size,
                topic=partition,
            )
    return pa.concat_tables(tables)


def together(
    queue: QueueReader,
    topic: str,
    schema: pa.Schema,
    take: Callable[[], Snapshot | None],
    *,
    reader: EnvelopeReader | None = None,
    grown: bool = False,
    bytes_max: int | None = None,
) -> tuple[Snapshot | None, pa.Table]:
    """A snapshot and the tail behind it, which together hold each acknowledged row once.

    Args:
        grown: the tail has all columns of the snapshot, and not those of `schema` only.
        take: gives the newest snapshot; None if nobody has written the table yet, when all its
            rows are in the queue.
        bytes_max: most memory that the tail of a partition may take.

    Raises:
        Conflict: the queue is trimmed faster than snapshots can be taken, or was made anew again
            and again.
        TooLarge, NeedsAttention, SchemaMismatch: as `read_tail`.
    """
    for left in reversed(range(_TRIES_MAX)):
        try:
            # What is trimmed was committed before. Asked before the snapshot, so that rows which
            # are committed and trimmed in between raise `Trimmed` below instead of being in
            # neither part.
            identity, partitions = queue.id, queue.partitions(topic)
            trimmed = {name: queue.bounds(name).trimmed for name in partitions}
            snapshot = take()
            there = None if snapshot is None else snapshot.schema
            wanted = schema if there is None or not grown else with_more(schema, there)
            tails = [wanted.empty_table()]
            for name in partitions:
                committed = snapshot.txn(app_id(identity, name)) if snapshot else None
                # Without a txn of this queue the table is new: it never held what was trimmed.
                after = trimmed[name] if committed is None else committed
                tails.append(
                    read_tail(
                        queue,
                        name,
                        after=after,
                        schema=wanted,
                        reader=reader,
                        into=partial(_same, there),
                        bytes_max=bytes_max,
                    )
                )
            if queue.id != identity:  # A remote one; another thread may have been told of it.
                raise Conflict(f"The queue of {topic!r} was made anew while it was read.")
        except Conflict:
            if not left:
                raise
            continue
        return snapshot, pa.concat_tables(tails)
    raise AssertionError("unreachable")


def existing(take: Callable[[], Snapshot]) -> Snapshot | None:
    """What `take` gives; None if there is no table yet."""
    try:
        return take()
    except UnknownName as error:
        if error.kind != "table":
            raise
        return None


def _same(schema: pa.Schema | None) -> pa.Schema | None:
    return schema


def lazy_rows(rows: pa.Table) -> pl.LazyFrame:
    """`rows` for Polars, without a copy where their types allow it."""
    import polars as pl  # SQL joins tails without it, and its processes start without it.

    found = pl.from_arrow(rows)
    assert isinstance(found, pl.DataFrame)  # noqa: S101 a table is never a Series; for mypy
    return found.lazy()
