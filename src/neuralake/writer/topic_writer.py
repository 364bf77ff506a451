"""Move the envelopes of one partition into a Delta table, each exactly once and in order.

The Delta `txn` action of each commit carries the position of the last envelope in it, so the table
itself says where to go on: after a crash, a pause, or beside a second writer. The queue is trimmed
only behind that position, and only after a grace time for live readers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pyarrow as pa

from neuralake.clock import Clock, SystemClock
from neuralake.delta import Commit, TableLog, Txn, add_columns
from neuralake.errors import Conflict, NeedsAttention, SchemaMismatch
from neuralake.queue import Amount, Envelope, Queue
from neuralake.queue.protocol import MESSAGES_MAX
from neuralake.queue.topic import app_id, labels_of
from neuralake.records.dropped import Dropped
from neuralake.records.envelopes import EnvelopeReader
from neuralake.records.letters import DeadLetter
from neuralake.schema import conform
from neuralake.telemetry import Telemetry
from neuralake.writer.flush import FlushLimits, is_due

__all__ = ["TopicWriter", "start_position"]

_log = logging.getLogger(__name__)

# Trimming is a write to the queue and takes turns with appends; once a second is often enough.
_TRIM_INTERVAL_S = 1.0
# Opening a snapshot and reading the tail behind it takes tens of milliseconds.
_CROWDED = Amount(1024**3, 10**9)
_CROWDED_GRACE_S = 1.0
# Positions without rows (of aborted transactions) are committed too, or the queue's own retention
# would one day seem to have removed rows; but not often.
_ROWLESS_S = 60.0
# Writers of other partitions may be first with new columns; each time the batch is read anew.
_SCHEMAS_MAX = 20


class TopicWriter:
    """One partition, one thread. `step` is the whole loop body; time comes from the clock.

    Args:
        reader: what makes rows of envelopes; default: of those that ingest made.
        reject: called before each commit with the dead letters in it, all of them at or before
            the commit's position, and some perhaps again after a crash.
        grace_s: how long committed envelopes are kept for live readers of older snapshots.
        kept_max: beyond so much the grace is a second: readers then take a newer snapshot, and
            senders are not held up by rows that are long committed.

    Raises (at construction and in `step`):
        NeedsAttention: queue and table contradict each other; going on would lose rows.
        Unavailable: queue or store do not answer; nothing is lost, call again later.
    """

    def __init__(
        self,
        queue: Queue,
        partition: str,
        table: TableLog,
        limits: FlushLimits,
        *,
        reader: EnvelopeReader | None = None,
        reject: Callable[[Sequence[DeadLetter]], None] | None = None,
        grace_s: float = 60.0,
        kept_max: Amount = _CROWDED,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._queue, self._partition, self._table, self._limits = queue, partition, table, limits
        self._reader, self._reject = reader or EnvelopeReader(table.schema), reject
        self._grace_s, self._kept_max = grace_s, kept_max
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or Telemetry()
        self._app_id = app_id(queue.id, partition)
        self._labels = labels_of(partition)
        self._position = 0
        self._waiting: list[Envelope] = []
        self._took_rows = 0
        self._dropped = Dropped()
        self._commit_began_s = float("-inf")
        self._trimmed_s = float("-inf")
        self._find_position()

    @property
    def position(self) -> int:
        """The last position known to be committed."""
        return self._position

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for their commit; an envelope of dead letters only counts as one."""
        return sum(map(_weight, self._waiting))

    @property
    def is_behind(self) -> bool:
        """Whether the last read gave as much as a read gives: there is more right now."""
        return self._took_rows >= MESSAGES_MAX

    def has_more(self) -> bool:
        """Whether the queue has envelopes that are not committed yet."""
        found = self._queue.read(
            self._partition, after=self._position, envelopes_max=1, bytes_max=1
        )
        return any(map(_weight, found))

    def step(self, *, flush: bool = False) -> Commit | None:
        """Take what the queue has, commit if it is due (or `flush`), trim if it is time.

        None if nothing was committed. After a lost race with a second writer of the partition
        nothing is committed either, and the next step goes on behind the other's commit.
        """
        try:
            commit = self._advance(flush=flush)
        except Conflict as conflict:
            # A second writer committed a part of our batch, or trimmed what we had yet to read.
            # What we hold is in the table or still in the queue: begin again behind the other.
            _log.warning(
                "%s: another writer is ahead: %s", self._partition, conflict, extra=self._labels
            )
            self._find_position()
            return None
        self._trim()
        return commit

    def _advance(self, *, flush: bool) -> Commit | None:
        self._take()
        now_s = self._clock.monotonic_s()
        if not self._waiting or not (flush or self._is_due(now_s)):
            return None
        if not self.waiting_rows and now_s - self._commit_began_s < _ROWLESS_S:
            return None
        self._commit_began_s = now_s
        return self._commit()

    def _take(self) -> None:
        if self.waiting_rows >= self._limits.rows_max or self._waiting_bytes >= self._bytes_max:
            return
        after = self._waiting[-1].position if self._waiting else self._position
        taken = self._queue.read(self._partition, after=after, bytes_max=self._bytes_max)
        self._took_rows = sum(envelope.rows for envelope in taken)
        self._waiting += taken

    def _is_due(self, now_s: float) -> bool:
        return not self.waiting_rows or is_due(
            self._limits,
            rows=self.waiting_rows,
            payload_bytes=self._waiting_bytes,
            since_commit_s=now_s - self._commit_began_s,
        )

    @property
    def _bytes_max(self) -> int:
        return self._limits.bytes_max

    @property
    def _waiting_bytes(self) -> int:
        return sum(envelope.size for envelope in self._waiting)

    def _commit(self) -> Commit | None:
        batch, last = self._waiting, self._waiting[-1].position
        txn = Txn(self._app_id, last, after=self._position)
        for left in reversed(range(_SCHEMAS_MAX)):
            rows, new, dropped = self._rows(batch)
            into, began_s = self._table.schema, self._clock.monotonic_s()
            try:
                commit = self._table.append(rows, txn=txn, new_columns=new)
            except SchemaMismatch:
                # Another writer was first with a column of ours, as another type: what fits it is
                # to be found out anew.
                if not left or self._table.schema.equals(into):
                    raise
                continue
            break
        commit_s = self._clock.monotonic_s() - began_s
        if commit.repeated:
            self._find_position()
            return None
        self._position, self._waiting = last, []
        self._observe(batch, commit, commit_s)
        if dropped.rows:
            self._tell_dropped(dropped)
        return commit

    def _rows(self, batch: Sequence[Envelope]) -> tuple[pa.Table, list[pa.Field], Dropped]:
        """The rows of `batch`, the columns that the table lacks, and what was left out.

        Its letters are stored.
        """
        while True:
            # As the table is now: another writer may have added columns.
            found = self._reader.read(batch, into=self._table.schema)
            known = self._table.schema.names
            new = [field for field in found.rows.schema if field.name not in known]
            if not (found.rejected and new):
                break
            # Letters are stored before the rows, and which there are depends on the columns. So
            # these come first, by themselves: after a crash in between the batch is read the same.
            add_columns(self._table, new)
        if found.rejected:
            self._tell_rejected(found.rejected)
        wanted = pa.schema([*self._table.schema, *new])
        return conform(found.rows, wanted, name=self._partition), new, found.dropped

    def _tell_dropped(self, dropped: Dropped) -> None:
        self._telemetry.count("writer_dropped_values", dropped.values, **self._labels)
        known = set(self._dropped.rows)
        self._dropped.merge(dropped)
        if new := [name for name in self._dropped.rows if name not in known]:
            _log.warning(
                "%s: columns that the table does not have are left out of messages: %s",
                self._partition,
                ", ".join(map(repr, new)),
                extra=self._labels,
            )

    def _tell_rejected(self, rejected: Sequence[DeadLetter]) -> None:
        self._telemetry.count("writer_rejected", len(rejected), **self._labels)
        if self._reject is not None:
            self._reject(rejected)
            return
        first = rejected[0]
        raise NeedsAttention(
            f"{len(rejected)} rows or messages of {self._partition!r} do not fit; the first, at "
            f"position {first.position}: {first.reason}. There is nowhere to put them.",
            position=first.position,
        )

    def _find_position(self) -> None:
        self._waiting = []
        self._position = start_position(self._queue, self._partition, self._table)

    def _trim(self) -> None:
        now_s = self._clock.monotonic_s()
        if not self._position or now_s - self._trimmed_s < _TRIM_INTERVAL_S:
            return
        self._trimmed_s = now_s
        if self._is_elsewhere():
            self._find_position()
            return
        kept = self._queue.bounds(self._partition)
        is_crowded = Amount(kept.bytes, kept.rows).exceeds(self._kept_max)
        grace_s = min(self._grace_s, _CROWDED_GRACE_S) if is_crowded else self._grace_s
        self._queue.trim(
            self._partition,
            through=self._position,
            appended_before_s=self._clock.now_s() - grace_s,
        )

    def _is_elsewhere(self) -> bool:
        """Whether the table, as it is now, is not where we left it: restored, or made anew.

        What is trimmed cannot be committed again, so the table is asked and not our memory.
        """
        self._table.refresh()
        committed = self._table.committed(self._app_id)
        if committed is None:
            committed = self._queue.bounds(self._partition).trimmed
        return committed != self._position

    def _observe(self, batch: Sequence[Envelope], commit: Commit, commit_s: float) -> None:
        telemetry, labels = self._telemetry, self._labels
        telemetry.count("writer_rows", commit.rows, **labels)
        telemetry.count("writer_commits", **labels)
        telemetry.count("writer_bytes", commit.bytes, **labels)
        flush_s = self._clock.monotonic_s() - self._commit_began_s
        telemetry.observe("writer_flush_seconds", flush_s, **labels)
        telemetry.observe("writer_commit_seconds", commit_s, **labels)
        age_s = self._clock.now_s() - batch[0].appended_s
        telemetry.observe("writer_freshness_seconds", max(0.0, age_s), **labels)
        telemetry.gauge("writer_last_commit_timestamp_seconds", self._clock.now_s(), **labels)
        _log.debug(
            "%s: version %d holds positions up to %d: %d rows, %d bytes, %.1f ms",
            self._partition,
            commit.version,
            self._position,
            commit.rows,
            commit.bytes,
            flush_s * 1000,
            extra={**labels, "position": self._position, "version": commit.version},
        )


def _weight(envelope: Envelope) -> int:
    return envelope.rows or (1 if envelope.payload else 0)


def start_position(queue: Queue, partition: str, table: TableLog) -> int:
    """The position behind which `table` needs the envelopes of `partition`.

    Raises:
        NeedsAttention: the queue is older than the table (restored from a backup), or the table
            is older than what the queue still keeps.
    """
    # Another writer may be at work: what was trimmed is asked before the table is read, and what
    # was appended after it, so that its commits in between contradict nothing.
    trimmed = queue.bounds(partition).trimmed
    table.refresh()
    committed = table.committed(app_id(queue.id, partition))
    last = queue.bounds(partition).last
    if committed is None:
        if trimmed:
            # The table was made anew on purpose: what it held is gone, what is queued is not.
            _log.warning(
                "%s: the table is new, but the queue was trimmed up to %d; going on from there",
                partition,
                trimmed,
            )
        return trimmed
    if committed > last:
        raise NeedsAttention(
            f"The table of {partition!r} holds the queue's positions up to {committed}, but the "
            f"queue ends at {last}: it was restored from an older copy, and new rows would be "
            f"taken for old ones. Restore the newer queue file, or move this one away: a new "
            f"queue gets a new identity and starts cleanly.",
            topic=partition,
            committed=committed,
            last=last,
        )
    if committed < trimmed:
        raise NeedsAttention(
            f"The table of {partition!r} ends at position {committed}, but the queue was trimmed "
            f"up to {trimmed}: the table is an older copy, and the rows between are in neither. "
            f"Restore the newer table; or, to accept the gap, delete its folder and let the writer "
            f"make it anew from what is queued.",
            topic=partition,
            committed=committed,
            trimmed=trimmed,
        )
    return committed
