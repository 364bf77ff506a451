"""The rows that envelopes hold: to the queue itself their payload is opaque."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from neuralake.errors import NeedsAttention
from neuralake.queue.protocol import Envelope

__all__ = ["decode_rows"]


def decode_rows(envelopes: Sequence[Envelope]) -> pa.Table:
    """The rows of `envelopes`, at least one, in order.

    Raises:
        NeedsAttention: one of them is damaged, or has other rows than it was stored with.
    """
    tables = [_rows(envelope) for envelope in envelopes]
    return pa.concat_tables(tables, promote_options="default")


def _rows(envelope: Envelope) -> pa.Table:
    try:
        rows = pa.ipc.open_stream(envelope.payload).read_all()
        found = f"it has {rows.num_rows} rows"
    except (pa.ArrowException, OSError) as error:
        rows, found = None, str(error)
    if rows is None or rows.num_rows != envelope.rows:
        raise NeedsAttention(
            f"The envelope at position {envelope.position}, stored with {envelope.rows} rows, "
            f"cannot be read: {found}. It and what came after it wait in the queue. Restore the "
            f"queue's file, or upgrade if a newer release wrote it.",
            position=envelope.position,
        )
    return rows
