"""The durable queue of one machine: a SQLite file that several processes open at once.

An append is acknowledged after its transaction's fsync (WAL, full sync); concurrent appends share
one. Large payloads are files beside it (`payload_files`). All writers of all processes take turns
by SQLite's write lock, and positions are given inside it, so commit order is position order. Reads
see one moment and never wait for writers.

The file must be on a local file system. A process opens its own `SqliteQueue`: one that was opened
before a fork must not be used after it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, NeuralakeError
from neuralake.queue.group import GroupCommitter, Submit
from neuralake.queue.limits import Amount, QueueLimits
from neuralake.queue.payload_files import FILE_BYTES_MIN, PayloadFiles
from neuralake.queue.producers import (
    PRODUCERS_MAX,
    PRODUCERS_RETENTION_S,
    ProducerSequence,
)
from neuralake.queue.protocol import (
    KEYS_RETENTION_S,
    READ_BYTES_MAX,
    READ_ENVELOPES_MAX,
    Appended,
    Backlog,
    Bounds,
    Envelope,
    check_append,
    check_kept,
    check_read,
    check_same,
)
from neuralake.queue.sqlite_errors import explain, is_disk_full, is_surely_unstored
from neuralake.queue.sqlite_file import SqliteFile
from neuralake.queue.sqlite_leases import LEASE_S, TopicLeases
from neuralake.queue.sqlite_producers import Producers, ProducersOfGroup
from neuralake.queue.sqlite_rows import (
    NEW,
    POSITION_BITS,
    POSITION_MAX,
    SIZE,
    Kept,
    Topic,
    add_topic,
    files_named,
    kept_after,
    oldest,
    topic_row,
    update_topic,
)
from neuralake.telemetry import Telemetry

__all__ = ["SqliteQueue"]

# Expired keys forgotten per key stored: above 1, so that a backlog shrinks under any load.
_KEYS_PRUNED_PER_STORED = 2

_Key = tuple[int, str, int, float, bytes | None]  # A row of `keys`.

_KEPT = "SELECT coalesce(sum(bytes), 0), coalesce(sum(rows), 0) FROM topics"


class SqliteQueue:
    """A `Queue` in the SQLite file `path`, which is made, with its folder, if it is not there.

    Args:
        limits: what may be kept before appends are answered `QueueFull`.
        keys_retention_s: how long idempotency keys are remembered, by the clock.
        producers_retention_s: how long a producer is remembered after its last append.
        producers_max: how many of them at least, if there are so many.
        lock_s_max: how long a call waits for other processes' transactions.
        lease_s: how long other writers wait for one that is not heard of; at most 60.
        file_bytes_min: payloads from here on are files of their own.
        telemetry: counts `queue_commits` and the `queue_submits` that shared them.

    Raises:
        NeedsAttention: the file is damaged, of a newer release or not a queue.
        Unavailable: the disk is full or read-only.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock | None = None,
        limits: QueueLimits | None = None,
        keys_retention_s: float = KEYS_RETENTION_S,
        producers_retention_s: float = PRODUCERS_RETENTION_S,
        producers_max: int = PRODUCERS_MAX,
        lock_s_max: float = 10.0,
        lease_s: float = LEASE_S,
        file_bytes_min: int = FILE_BYTES_MIN,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._limits = limits or QueueLimits()
        self._keys_retention_s = keys_retention_s
        self._telemetry = telemetry or Telemetry()
        self._file = SqliteFile(Path(path), lock_s_max=lock_s_max)
        self._id = self._file.id
        self._file_bytes_min = file_bytes_min
        self._payloads = PayloadFiles(self._file.path, self._id)
        self._sweep()
        self._producers = Producers(
            queue_id=self._id, retention_s=producers_retention_s, producers_max=producers_max
        )
        self._leases = TopicLeases(self._file, clock=self._clock, lease_s=lease_s)
        self._closing = threading.Lock()
        self._committer = GroupCommitter(self._commit, name="neuralake-queue-commit")

    @property
    def id(self) -> str:
        return self._id

    def submit(
        self,
        topic: str,
        payload: bytes,
        rows: int,
        *,
        key: str | None = None,
        fingerprint: bytes | None = None,
        producer: ProducerSequence | None = None,
    ) -> Future[Appended]:
        check_append(topic, payload, rows, key, producer)
        self._file.check_process()
        return self._committer.add(Submit(topic, payload, rows, key, fingerprint, producer))

    def append(
        self,
        topic: str,
        payload: bytes,
        rows: int,
        *,
        key: str | None = None,
        fingerprint: bytes | None = None,
        producer: ProducerSequence | None = None,
    ) -> Appended:
        return self.submit(
            topic, payload, rows, key=key, fingerprint=fingerprint, producer=producer
        ).result()

    def partitions(self, topic: str) -> list[str]:
        return [topic]

    def claim(self, topic: str) -> list[str]:
        self._file.check_process()
        return [topic] if self._leases.claim(topic) else []

    def release(self, topic: str) -> None:
        self._leases.release(topic)

    def read(
        self,
        partition: str,
        *,
        after: int,
        envelopes_max: int = READ_ENVELOPES_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Envelope]:
        check_read(after, envelopes_max)
        with self._reading() as connection:
            # One statement is one moment: an idle poll ends here, without a transaction.
            found = topic_row(connection, partition)
            if found is None or (found.trimmed <= after and found.last <= after):
                return []
            # The mark and the rows of one moment: else a trim in between looks like a gap.
            connection.execute("BEGIN")
            try:
                found = topic_row(connection, partition) or found
                check_kept(partition, after=after, trimmed=found.trimmed)
                kept = kept_after(connection, found, after, envelopes_max, bytes_max)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        return self._whole(partition, after, kept)

    def bounds(self, partition: str) -> Bounds:
        with self._reading() as connection:
            found = topic_row(connection, partition) or Topic(NEW)
        return Bounds(found.last, found.trimmed, found.rows, found.bytes)

    def backlog(self, partition: str, *, after: int) -> Backlog:
        with self._reading() as connection:
            # Beside min(), SQLite gives the other columns of that row (section 2.4 of its SELECT).
            # Lengths are in the rows' own pages: no payload is read for them.
            rows, size, oldest_s, _ = connection.execute(
                f"SELECT coalesce(sum(e.rows), 0), coalesce(sum({SIZE}), 0), "  # noqa: S608 ours
                "e.appended_s, min(e.slot) FROM topics JOIN envelopes AS e "
                "ON e.slot > (number << ?) + min(?, last) "
                "AND e.slot <= (number << ?) + last WHERE name = ?",
                (POSITION_BITS, after, POSITION_BITS, partition),
            ).fetchone()
        return Backlog(rows, size, oldest_s)

    def trim(self, partition: str, *, through: int, appended_before_s: float) -> int:
        removed = 0
        while count := self._trim_some(partition, through, appended_before_s):
            removed += count
        if removed:
            self._file.give_back()
        return removed

    def topics(self) -> list[str]:
        with self._reading() as connection:
            names = connection.execute("SELECT name FROM topics").fetchall()
        return sorted(name for (name,) in names)

    def probe(self) -> None:
        with self._reading():
            pass  # The files are still the same.
        # Synced: some disks have no room only when they are to keep it.
        with self._file.trimmer(is_durable=True) as connection:
            connection.execute("UPDATE identity SET id = id")

    def close(self) -> None:
        with self._closing:
            self._leases.close()
            self._committer.close()
            self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._file.reader() as connection:
                yield connection
        except sqlite3.Error as error:
            raise explain(error, self._file.path) from error

    def _trim_some(self, topic: str, through: int, appended_before_s: float) -> int:
        with self._reading() as connection:
            # Look without the write lock first: most calls find nothing to remove.
            found = topic_row(connection, topic)
            if found is None:
                return 0
            seen = oldest(connection, found, through, appended_before_s)
            if not seen:
                return 0
        # A file is gone for good, and so must its envelope be: it must not come back without.
        with self._file.trimmer(is_durable=any(each.file for each in seen)) as connection:
            found = topic_row(connection, topic)
            gone = [] if found is None else oldest(connection, found, through, appended_before_s)
            gone = [each for each in gone if each.slot <= seen[-1].slot]
            if found is None or not gone or self._leases.is_former(connection, topic):
                return 0
            first, last = gone[0].slot, gone[-1].slot
            connection.execute("DELETE FROM envelopes WHERE slot BETWEEN ? AND ?", (first, last))
            found.trimmed = last & POSITION_MAX
            found.rows -= sum(each.rows for each in gone)
            found.bytes -= sum(each.bytes for each in gone)
            update_topic(connection, found)
        self._payloads.remove(each.file for each in gone if each.file)
        return len(gone)

    def _whole(self, partition: str, after: int, kept: Sequence[Kept]) -> list[Envelope]:
        """`kept` with their payloads, as far as they can be read."""
        envelopes: list[Envelope] = []
        for each in kept:
            try:
                payload = self._payload(partition, after, each)
            except NeuralakeError:
                if envelopes:
                    break  # Whoever reads on behind what is here finds out why.
                raise
            envelopes.append(
                Envelope(each.slot & POSITION_MAX, payload, each.rows, each.appended_s)
            )
        return envelopes

    def _payload(self, partition: str, after: int, kept: Kept) -> bytes:
        if isinstance(kept.payload, bytes):
            return kept.payload
        try:
            payload = self._payloads.read(kept.payload)
        except OSError as error:
            raise explain(error, self._file.path) from error
        if payload is None:
            # Trimmed since we looked; or it should be there.
            check_kept(partition, after=after, trimmed=self.bounds(partition).trimmed)
            raise NeedsAttention(
                f"A file of the queue {self._file.path} is missing: {kept.payload}, of the "
                f"envelope at position {kept.slot & POSITION_MAX}. It and what came after it wait "
                f"in the queue. Restore the queue's files.",
                path=str(self._file.path),
            )
        return payload

    def _sweep(self) -> None:
        """Remove the files that a killed process has left."""
        old = self._payloads.old(self._clock.now_s())
        if not old:
            return
        with suppress(NeuralakeError):
            # Look without the write lock first, as it takes long: most often nothing is left.
            with self._reading() as connection:
                old -= files_named(connection)
            if not old:
                return
            # Files are written in a writer's turn: in ours, what nothing refers to is of none.
            with self._file.trimmer() as connection:
                self._payloads.remove(old - files_named(connection))

    def _commit(self, group: Sequence[Submit]) -> Sequence[Appended | Exception]:
        """Store a group in one transaction; if the disk is full for it, in ever smaller ones."""
        files: list[str] = []
        try:
            with self._file.writer() as connection:
                answers = self._store(connection, group, files)
        except (sqlite3.Error, OSError) as error:
            if is_surely_unstored(error):
                self._payloads.remove(files)
            if is_disk_full(error) and len(group) > 1:
                half = len(group) // 2
                return [*self._commit(group[:half]), *self._commit(group[half:])]
            # One error each: an exception that two threads raise mixes their tracebacks.
            return [explain(error, self._file.path, of_commit=True) for _ in group]
        except NeuralakeError as error:
            return [type(error)(error.message, **error.facts) for _ in group]
        inline = sum(len(each.payload) for each in group if not self._is_large(each))
        self._file.committed(inline)
        self._telemetry.count("queue_commits")
        self._telemetry.count("queue_submits", len(group))
        return answers

    def _is_large(self, submit: Submit) -> bool:
        return len(submit.payload) >= self._file_bytes_min

    def _store(
        self, connection: sqlite3.Connection, group: Sequence[Submit], files: list[str]
    ) -> list[Appended | Exception]:
        now_s = self._clock.now_s()
        topics: dict[str, Topic] = {}
        answers: list[Appended | Exception] = []
        rows: list[tuple[int, int, float, bytes | str]] = []
        keys: list[_Key] = []
        fresh: dict[tuple[int, str], tuple[int, bytes | None]] = {}
        producers = self._producers.group(connection, now_s)
        kept = Amount(*connection.execute(_KEPT).fetchone())
        for submit in group:
            topic = topics.get(submit.topic)
            if topic is None:
                topic = topic_row(connection, submit.topic) or Topic(NEW)
                topics[submit.topic] = topic
            if submit.key is not None:
                known = fresh.get((topic.number, submit.key)) or self._known(
                    connection, topic, submit.key, now_s
                )
                if known is not None:
                    answers.append(_repeated(submit, *known))
                    continue
            more = Amount(len(submit.payload), submit.rows)
            try:
                repeated = _sequence_repeated(producers, submit, topic)
                if repeated is not None:
                    answers.append(repeated)
                    continue
                self._limits.check(submit.topic, more, topic_kept=topic.kept, kept=kept)
            except NeuralakeError as error:
                answers.append(error)
                continue
            if topic.number == NEW:
                topic.number = add_topic(connection, submit.topic)
            kept = kept.plus(more)
            topic.last += 1
            topic.rows += more.rows
            topic.bytes += more.bytes
            slot = topic.number << POSITION_BITS | topic.last
            payload: bytes | str = submit.payload
            if self._is_large(submit):
                payload = self._payloads.write(submit.payload)
                files.append(payload)
            rows.append((slot, submit.rows, now_s, payload))
            if submit.producer is not None:
                producers.add(submit, submit.producer, topic.number, topic.last)
            if submit.key is not None:
                fresh[topic.number, submit.key] = topic.last, submit.fingerprint
                keys.append((topic.number, submit.key, topic.last, now_s, submit.fingerprint))
            answers.append(Appended(topic.last, repeated=False, partition=submit.topic))
        if files:
            self._payloads.settle()
        connection.executemany("INSERT INTO envelopes VALUES (?, ?, ?, ?)", rows)
        if keys:
            self._remember(connection, keys, now_s)
        producers.save()
        for topic in topics.values():
            update_topic(connection, topic)
        return answers

    def _known(
        self, connection: sqlite3.Connection, topic: Topic, key: str, now_s: float
    ) -> tuple[int, bytes | None] | None:
        found: tuple[int, bytes | None] | None = connection.execute(
            "SELECT position, fingerprint FROM keys "
            "WHERE topic = ? AND key = ? AND appended_s >= ?",
            (topic.number, key, now_s - self._keys_retention_s),
        ).fetchone()
        return found

    def _remember(self, connection: sqlite3.Connection, keys: list[_Key], now_s: float) -> None:
        # REPLACE: an expired key that nobody has pruned yet gives way.
        connection.executemany(
            "INSERT OR REPLACE INTO keys (topic, key, position, appended_s, fingerprint) "
            "VALUES (?, ?, ?, ?, ?)",
            keys,
        )
        # Rowids grow with age, so the oldest are the first: no index on the time is needed.
        connection.execute(
            "DELETE FROM keys WHERE appended_s < ? AND rowid IN "
            "(SELECT rowid FROM keys ORDER BY rowid LIMIT ?)",
            (now_s - self._keys_retention_s, _KEYS_PRUNED_PER_STORED * len(keys)),
        )


def _repeated(submit: Submit, position: int, first: bytes | None) -> Appended | Exception:
    assert submit.key is not None  # noqa: S101 it was looked up by it; for mypy
    try:
        check_same(submit.topic, submit.key, position, first=first, again=submit.fingerprint)
    except NeuralakeError as error:
        return error
    return Appended(position, repeated=True, partition=submit.topic)


def _sequence_repeated(
    producers: ProducersOfGroup, submit: Submit, topic: Topic
) -> Appended | None:
    if submit.producer is None:
        return None
    position = producers.position_of(submit, submit.producer, topic.number)
    return None if position is None else Appended(position, True, submit.topic)
