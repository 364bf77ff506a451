"""What the queue's file knows of producers: their newest sequences, in the envelopes' transactions.

Knows the table `producers`; what its numbers mean is in `producers.py`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from neuralake.queue.group import Submit
from neuralake.queue.producers import (
    PRODUCERS_MAX,
    SEQUENCES_KEPT,
    ProducerSequence,
    Remembered,
    check_sequence,
)

__all__ = ["Producers", "ProducersOfGroup"]

# Rows that have expired are removed per row stored: above 1, so that they become fewer.
_PRUNED_PER_STORED = 2
# Counting reads an index from end to end, a few ms for a million rows: once in a while.
_COUNTED_EVERY = 4096


class Producers:
    """The table `producers` of one file. Use it from the committer's thread."""

    def __init__(
        self, *, queue_id: str, retention_s: float, producers_max: int = PRODUCERS_MAX
    ) -> None:
        self.queue_id, self.retention_s = queue_id, retention_s
        self._rows_max = producers_max * SEQUENCES_KEPT
        self._uncounted = _COUNTED_EVERY

    def group(self, connection: sqlite3.Connection, now_s: float) -> ProducersOfGroup:
        """For the appends of one transaction."""
        return ProducersOfGroup(self, connection, now_s)

    def prune(self, connection: sqlite3.Connection, stored: int, now_s: float) -> None:
        """Forget some of what has expired, and of too many the oldest."""
        # Rowids grow with age, so the oldest are the first: no index on the time is needed.
        connection.execute(
            "DELETE FROM producers WHERE appended_s < ? AND rowid IN "
            "(SELECT rowid FROM producers ORDER BY rowid LIMIT ?)",
            (now_s - self.retention_s, _PRUNED_PER_STORED * stored),
        )
        self._uncounted += stored
        if self._uncounted < _COUNTED_EVERY:
            return
        self._uncounted = 0
        (count,) = connection.execute("SELECT count(*) FROM producers").fetchone()
        connection.execute(
            "DELETE FROM producers WHERE rowid IN "
            "(SELECT rowid FROM producers ORDER BY rowid LIMIT ?)",
            (max(0, count - self._rows_max),),
        )


@dataclass(slots=True)
class _Producer:
    topic: int
    known: dict[int, Remembered]
    stored: list[int]
    """Sequences that this group stores."""


class ProducersOfGroup:
    """What the appends of one transaction see and add."""

    def __init__(self, table: Producers, connection: sqlite3.Connection, now_s: float) -> None:
        self._table, self._connection, self._now_s = table, connection, now_s
        self._found: dict[tuple[str, str], _Producer] = {}

    def position_of(self, submit: Submit, asked: ProducerSequence, topic: int) -> int | None:
        """The first position of a repeat; None for what comes next. Raises as `check_sequence`."""
        found = self._find(submit.topic, asked.producer, topic)
        return check_sequence(
            submit.topic,
            asked,
            found.known,
            fingerprint=submit.fingerprint,
            forgotten_s=self._now_s - self._table.retention_s,
            queue_id=self._table.queue_id,
        )

    def add(self, submit: Submit, asked: ProducerSequence, topic: int, position: int) -> None:
        """Note that `submit` is stored at `position` by this transaction."""
        found = self._find(submit.topic, asked.producer, topic)
        if asked.sequence == 1:
            found.known.clear()
        found.topic = topic
        found.known[asked.sequence] = Remembered(position, submit.fingerprint, self._now_s)
        found.stored.append(asked.sequence)

    def save(self) -> None:
        """Write what was added."""
        stored = 0
        for (_, name), found in self._found.items():
            if not found.stored:
                continue
            last = found.stored[-1]
            kept = range(last - SEQUENCES_KEPT + 1, last + 1)
            self._connection.executemany(
                "INSERT OR REPLACE INTO producers VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (found.topic, name, sequence, at.position, at.appended_s, at.fingerprint)
                    for sequence in found.stored
                    if sequence in kept
                    for at in [found.known[sequence]]
                ],
            )
            # Also what comes after: of a producer that was forgotten, and begins again.
            self._connection.execute(
                "DELETE FROM producers WHERE topic = ? AND producer = ? "
                "AND sequence NOT BETWEEN ? AND ?",
                (found.topic, name, kept[0], last),
            )
            stored += len(found.stored)
        if stored:
            self._table.prune(self._connection, stored, self._now_s)

    def _find(self, topic_name: str, producer: str, topic: int) -> _Producer:
        found = self._found.get((topic_name, producer))
        if found is None:
            rows = self._connection.execute(
                "SELECT sequence, position, fingerprint, appended_s FROM producers "
                "WHERE topic = ? AND producer = ?",
                (topic, producer),
            )
            known = {sequence: Remembered(*rest) for sequence, *rest in rows}
            found = self._found[topic_name, producer] = _Producer(topic, known, [])
        return found
