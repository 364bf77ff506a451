"""Dead letters go to a table beside their own, each once.

Before a batch is committed, its letters are, under the same `txn` name and with the position of the
last of them. After a crash between the two commits the batch may come again with other borders:
what is at or before the position there is known, and not stored again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import pyarrow as pa

from neuralake.clock import Clock
from neuralake.delta import STREAM_PROPERTIES, TableLog, Txn, add_columns, create_table, exists
from neuralake.records.letters import DeadLetter
from neuralake.storage import LogStore

__all__ = ["REJECTED_SCHEMA", "RejectedTable", "letter_id"]

"""The table of dead letters is where the table itself is, with this behind its name."""

REJECTED_SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("partition", pa.string()),
        ("position", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("value", pa.binary()),
        # Tables of the first weeks end here; what follows is added to them.
        ("id", pa.string()),
        ("row", pa.int64()),
        ("format", pa.string()),
        ("source", pa.string()),
        ("attached", pa.string()),
    ]
)


def letter_id(app_id: str, position: int, row: int | None, value: bytes = b"") -> str:
    """The name of a letter, the same whenever it is made anew from the queue: 16 characters."""
    return blake2b(f"{app_id}\n{position}\n{row}\n".encode() + value, digest_size=8).hexdigest()


class RejectedTable:
    """Where one partition's dead letters go. Use it from one thread.

    Args:
        source_of: who sent a letter, where the letter itself does not say.
    """

    def __init__(
        self,
        store: LogStore,
        *,
        partition: str,
        app_id: str,
        clock: Clock,
        source_of: Callable[[DeadLetter], str] = lambda letter: letter.source,
    ) -> None:
        self._store, self._partition, self._app_id, self._clock = store, partition, app_id, clock
        self._source_of = source_of
        self._log: TableLog | None = None

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Store those that are not there yet; the table is made for the first of them.

        Args:
            letters: in the order of their positions; all letters of a position together.

        Raises:
            Conflict: another writer of the partition is doing the same; nothing is stored twice.
            Unavailable: the store does not answer.
        """
        if self._log is None:
            self._log = self._opened()
        self._log.refresh()
        known = self._log.committed(self._app_id)
        fresh = [letter for letter in letters if known is None or letter.position > known]
        if not fresh:
            return
        self._log.append(self._rows(fresh), txn=Txn(self._app_id, fresh[-1].position, after=known))

    def _opened(self) -> TableLog:
        if not exists(self._store):
            create_table(self._store, REJECTED_SCHEMA, properties=STREAM_PROPERTIES)
        log = TableLog.open(self._store, clock=self._clock)
        add_columns(log, list(REJECTED_SCHEMA))
        return log

    def _rows(self, letters: Sequence[DeadLetter]) -> pa.Table:
        now_us = int(self._clock.now_s() * 1e6)
        columns = {
            "time": pa.array([now_us] * len(letters), REJECTED_SCHEMA.field("time").type),
            "partition": [self._partition] * len(letters),
            "id": [
                letter_id(self._app_id, each.position, each.row, each.value) for each in letters
            ],
            "source": [self._source_of(letter) for letter in letters],
        }
        same = [name for name in REJECTED_SCHEMA.names if name not in columns]
        columns |= {name: [getattr(letter, name) for letter in letters] for name in same}
        return pa.table([columns[name] for name in REJECTED_SCHEMA.names], schema=REJECTED_SCHEMA)
