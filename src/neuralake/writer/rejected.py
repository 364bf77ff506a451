"""Messages that give no row go to a table beside their own, each once.

Before a batch is committed, its rejected messages are, under the same `txn` name and with the
position of the last of them. After a crash between the two commits the batch may come again with
other borders: what is at or before the position there is known, and not stored again.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from neuralake.clock import Clock
from neuralake.delta import STREAM_PROPERTIES, TableLog, Txn, create_table
from neuralake.records.messages import RejectedMessage
from neuralake.storage import LogStore

__all__ = ["REJECTED_SCHEMA", "REJECTED_SUFFIX", "RejectedTable"]

REJECTED_SUFFIX = "_rejected"
"""The table of rejected messages is where the table itself is, with this behind its name."""

REJECTED_SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("partition", pa.string()),
        ("position", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("value", pa.binary()),
    ]
)


class RejectedTable:
    """Where one partition's rejected messages go. Use it from one thread."""

    def __init__(self, store: LogStore, *, partition: str, app_id: str, clock: Clock) -> None:
        self._store, self._partition, self._app_id, self._clock = store, partition, app_id, clock
        self._log: TableLog | None = None

    def add(self, rejected: Sequence[RejectedMessage]) -> None:
        """Store those that are not there yet; the table is made for the first of them.

        Raises:
            Conflict: another writer of the partition is doing the same; nothing is stored twice.
            Unavailable: the store does not answer.
        """
        if self._log is None:
            create_table(self._store, REJECTED_SCHEMA, properties=STREAM_PROPERTIES)
            self._log = TableLog.open(self._store, clock=self._clock)
        self._log.refresh()
        known = self._log.committed(self._app_id)
        fresh = [found for found in rejected if known is None or found.position > known]
        if not fresh:
            return
        now_us = int(self._clock.now_s() * 1e6)
        rows = pa.table(
            {
                "time": pa.array([now_us] * len(fresh), REJECTED_SCHEMA.field("time").type),
                "partition": [self._partition] * len(fresh),
                "position": [found.position for found in fresh],
                "column": [found.column for found in fresh],
                "reason": [found.reason for found in fresh],
                "value": [found.value for found in fresh],
            },
            schema=REJECTED_SCHEMA,
        )
        self._log.append(rows, txn=Txn(self._app_id, fresh[-1].position, after=known))
