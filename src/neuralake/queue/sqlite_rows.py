"""Topics and envelopes as rows of the queue's file: where they are, and what is read of them.

Knows the tables `topics` and `envelopes`; transactions are others'.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from neuralake.queue.limits import Amount
from neuralake.queue.payload_files import size_of

__all__ = [
    "NEW",
    "POSITION_BITS",
    "POSITION_MAX",
    "SIZE",
    "Gone",
    "Kept",
    "Topic",
    "add_topic",
    "files_named",
    "kept_after",
    "oldest",
    "topic_row",
    "update_topic",
]

# A slot is the rowid of an envelope: topic number above, position below. One B-tree then serves
# order, lookup and range per topic; a secondary index would be one more page in every commit.
POSITION_BITS = 40
POSITION_MAX = (1 << POSITION_BITS) - 1

# One trim transaction holds the write lock for about as long as one append of this many bytes.
_TRIM_ENVELOPES_MAX = 512
_TRIM_BYTES_MAX = 8 * 1024 * 1024

# Of an envelope: its payload's bytes, without reading them.
SIZE = (
    "CASE typeof(payload) WHEN 'text' "
    "THEN CAST(substr(payload, instr(payload, '-') + 1) AS INTEGER) ELSE length(payload) END"
)
_FILE = "CASE typeof(payload) WHEN 'text' THEN payload END"

NEW = 0  # The number of a topic that has no row yet: SQLite gives rowids from 1.

_TOPIC = "SELECT number, last, trimmed, rows, bytes FROM topics WHERE name = ?"


@dataclass(slots=True)
class Topic:
    """A row of `topics`."""

    number: int
    last: int = 0
    trimmed: int = 0
    rows: int = 0
    bytes: int = 0

    @property
    def kept(self) -> Amount:
        """What its envelopes have together."""
        return Amount(self.bytes, self.rows)

    def slot(self, position: int) -> int:
        """The rowid of the envelope at `position`."""
        return (self.number << POSITION_BITS) | min(position, POSITION_MAX)


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of `envelopes`; `payload` may be the name of a file."""

    slot: int
    payload: bytes | str
    rows: int
    appended_s: float


@dataclass(frozen=True, slots=True)
class Gone:
    """An envelope to be trimmed, and the file of its payload."""

    slot: int
    rows: int
    bytes: int
    file: str | None


def topic_row(connection: sqlite3.Connection, name: str) -> Topic | None:
    """The topic `name`; None if it has no row yet."""
    found = connection.execute(_TOPIC, (name,)).fetchone()
    return None if found is None else Topic(*found)


def add_topic(connection: sqlite3.Connection, name: str) -> int:
    """Make a row for `name`; its number."""
    number = connection.execute("INSERT INTO topics (name) VALUES (?)", (name,)).lastrowid
    assert number is not None  # noqa: S101 an INSERT sets it; for mypy
    return number


def update_topic(connection: sqlite3.Connection, topic: Topic) -> None:
    """Store what `topic` has become."""
    connection.execute(
        "UPDATE topics SET last = ?, trimmed = ?, rows = ?, bytes = ? WHERE number = ?",
        (topic.last, topic.trimmed, topic.rows, topic.bytes, topic.number),
    )


def kept_after(
    connection: sqlite3.Connection, topic: Topic, after: int, envelopes_max: int, bytes_max: int
) -> list[Kept]:
    """The first envelopes past `after`, at least one if there is one, within the bounds."""
    kept: list[Kept] = []
    total = 0
    cursor = connection.execute(
        "SELECT slot, payload, rows, appended_s FROM envelopes "
        "WHERE slot > ? AND slot <= ? ORDER BY slot LIMIT ?",
        (topic.slot(after), topic.slot(topic.last), envelopes_max),
    )
    for slot, payload, rows, appended_s in cursor:
        total += size_of(payload) if isinstance(payload, str) else len(payload)
        if kept and total > bytes_max:
            break
        kept.append(Kept(slot, payload, rows, appended_s))
    cursor.close()
    return kept


def oldest(
    connection: sqlite3.Connection, topic: Topic, through: int, appended_before_s: float
) -> list[Gone]:
    """The first envelopes that a trim may remove, one chunk at most."""
    if through <= topic.trimmed:
        return []
    gone: list[Gone] = []
    total = 0
    cursor = connection.execute(
        f"SELECT slot, rows, {SIZE}, {_FILE}, appended_s FROM envelopes "  # noqa: S608 ours
        "WHERE slot > ? AND slot <= ? ORDER BY slot LIMIT ?",
        (topic.slot(topic.trimmed), topic.slot(min(through, topic.last)), _TRIM_ENVELOPES_MAX),
    )
    for slot, rows, size, file, appended_s in cursor:
        total += 0 if file else size  # Files are removed outside of the transaction.
        if appended_s >= appended_before_s or (gone and total > _TRIM_BYTES_MAX):
            break
        gone.append(Gone(slot, rows, size, file))
    cursor.close()
    return gone


def files_named(connection: sqlite3.Connection) -> set[str]:
    """The files of all envelopes; a look at each of them."""
    found = connection.execute("SELECT payload FROM envelopes WHERE typeof(payload) = 'text'")
    return {name for (name,) in found}
