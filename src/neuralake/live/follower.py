"""Where one follower of a stream table is, and its next rows.

A follower holds a position per partition of the queue and nothing else, so it goes on where it was
told to: with each frame comes the position behind it, to be kept with what was made of the rows.
The queue keeps committed rows for a grace time only (`queue.grace_s`). Who was away for longer is
told, never served with a gap: the table has the rows then, but does not say which of them came
behind a position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import polars as pl
import pyarrow as pa

from neuralake.clock import Clock, SystemClock
from neuralake.delta import Snapshot
from neuralake.errors import Conflict, Trimmed, UsageError
from neuralake.frame import scan_snapshot
from neuralake.live.tail import LONG_POLL_S, TailPage, lazy_rows, read_page
from neuralake.queue import Envelope, QueueReader
from neuralake.queue.topic import app_id
from neuralake.records.envelopes import EnvelopeReader
from neuralake.schema import polars_schema

__all__ = ["Followed", "Follower", "Position", "Start"]

Position = dict[str, Any]
"""Where a follower is, as JSON: `{"queue": "…", "partitions": {"lab.notes": 17}}`."""
Start = Literal["now", "start"] | Mapping[str, Any]

_PAGE_BYTES = 8 * 1024 * 1024
# How often it is asked whether there are more partitions.
_PARTITIONS_S = 5.0
_TRIES_MAX = 5


class Followed(NamedTuple):
    """New rows, and where to go on: `for rows, position in …`."""

    rows: pl.DataFrame
    position: Position


@runtime_checkable
class _LongPolled(Protocol):
    """A queue that can be asked to answer when there is something."""

    def read_within(
        self, partition: str, *, after: int, wait_s: float, bytes_max: int = ...
    ) -> list[Envelope]: ...


class Follower:
    """Use it from one thread at a time.

    Args:
        after: `"now"`; `"start"`, where the table's committed rows come first, in one frame; or a
            position that came with a frame.
        into: as `read_page`.
        take: gives the newest snapshot, None if there is no table yet; asked for `"start"` only.
        shape: the filters and columns of what is given.

    Raises:
        UsageError: `after` is no position.
        Conflict: it is of another queue, or this one was restored to a moment before it.
        Trimmed: the queue no longer keeps what came behind it.
    """

    def __init__(
        self,
        queue: QueueReader,
        topic: str,
        schema: pa.Schema,
        *,
        after: Start = "now",
        reader: EnvelopeReader | None = None,
        into: Callable[[], pa.Schema | None] = lambda: None,
        take: Callable[[], Snapshot | None],
        shape: Callable[[pl.LazyFrame], pl.LazyFrame],
        clock: Clock | None = None,
    ) -> None:
        self._queue, self._topic, self._schema = queue, topic, schema
        self._reader, self._into, self._shape = reader, into, shape
        self._clock = clock or SystemClock()
        self._id = queue.id
        self._partitions_s = self._clock.monotonic_s()
        self._first: Snapshot | None = None
        self.moved = False
        """Whether the last step went on, also where no row passed the filters."""
        if after == "now":
            self._at = {name: queue.bounds(name).last for name in queue.partitions(topic)}
        elif after == "start":
            self._first, self._at = self._begin(take)
        elif isinstance(after, Mapping):
            self._at = self._resumed(after)
        else:
            raise _no_position(after)

    @property
    def position(self) -> Position:
        """Behind all that was given."""
        return {"queue": self._id, "partitions": dict(self._at)}

    def nothing(self) -> Followed:
        """A frame without rows, and the position."""
        empty = pl.LazyFrame(schema=polars_schema(self._schema))
        return Followed(self._shape(empty).collect(), self.position)

    def step(self) -> Followed | None:
        """The next rows, of one partition; None if there are none now.

        Raises:
            Trimmed: rows were committed and trimmed before they were read here.
            Conflict: the queue was made anew.
            Unavailable: the queue does not answer; step again.
        """
        if self._first is not None:
            frame = scan_snapshot(self._first, self._schema, name=self._topic)
            rows = self._shape(frame).collect()
            self._first, self.moved = None, True
            return Followed(rows, self.position) if rows.height else None
        self.moved = False
        self._look_for_partitions()
        for name in list(self._at):
            page = self._next(name)
            if self._queue.id != self._id:
                raise _another_queue(self._topic, self._id, self._queue.id)
            if page is None:
                continue
            del self._at[name]
            self._at[name] = page.position  # At the end: each partition has its turn.
            self.moved = True
            rows = self._shape(lazy_rows(page.rows)).collect()
            if rows.height:
                return Followed(rows, self.position)
        return None

    def _next(self, partition: str) -> TailPage | None:
        after, queue = self._at[partition], self._queue
        # With several, waiting for one would keep the others waiting.
        if len(self._at) == 1 and isinstance(queue, _LongPolled):
            queue = _Waiting(queue)  # type: ignore[assignment]  # `read_page` only reads
        try:
            return read_page(
                queue,
                partition,
                after=after,
                schema=self._schema,
                reader=self._reader,
                into=self._into,
                bytes_max=_PAGE_BYTES,
            )
        except Trimmed as error:
            raise _missed(partition, after, error.facts.get("trimmed")) from error

    def _look_for_partitions(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._at and now_s - self._partitions_s < _PARTITIONS_S:
            return
        self._partitions_s = now_s
        for name in self._queue.partitions(self._topic):
            self._at.setdefault(name, 0)  # It is new since: so are all its rows.

    def _begin(self, take: Callable[[], Snapshot | None]) -> tuple[Snapshot | None, dict[str, int]]:
        """A snapshot, and the positions behind it that the queue still keeps."""
        for _ in range(_TRIES_MAX):
            names = self._queue.partitions(self._topic)
            # Before the snapshot, as in `together`.
            trimmed = {name: self._queue.bounds(name).trimmed for name in names}
            snapshot = take()
            found: dict[str, int] = {}
            for name in names:
                committed = snapshot.txn(app_id(self._id, name)) if snapshot else None
                found[name] = trimmed[name] if committed is None else committed
            if all(self._queue.bounds(name).trimmed <= at for name, at in found.items()):
                return snapshot, found
        raise Trimmed(
            f"The queue of {self._topic!r} is trimmed faster than snapshots of its table can be "
            f"taken: raise queue.grace_s.",
            topic=self._topic,
        )

    def _resumed(self, after: Mapping[str, Any]) -> dict[str, int]:
        marks = after.get("partitions")
        if not isinstance(marks, Mapping) or not all(
            isinstance(mark, int) and mark >= 0 for mark in marks.values()
        ):
            raise _no_position(after)
        if after.get("queue") != self._id:
            raise _another_queue(self._topic, str(after.get("queue")), self._id)
        names = self._queue.partitions(self._topic)
        if gone := [name for name in marks if name not in names]:
            raise Conflict(
                f"{self._topic!r} has no partition {gone[0]!r} any more: its topic was made anew. "
                f"Follow it after 'start' or 'now'.",
                topic=self._topic,
            )
        found: dict[str, int] = {}
        for name in names:
            found[name], bounds = marks.get(name, 0), self._queue.bounds(name)
            if bounds.last < found[name]:
                raise Conflict(
                    f"Position {found[name]} of {name!r} was not given yet: the newest is "
                    f"{bounds.last}. The queue was restored to an earlier moment, and its next "
                    f"rows will be others. Follow it after 'start' or 'now'.",
                    topic=self._topic,
                )
            if bounds.trimmed > found[name]:
                raise _missed(name, found[name], bounds.trimmed)
        return found


class _Waiting:
    """The reading of a queue that waits for something to come."""

    def __init__(self, queue: _LongPolled) -> None:
        self._read = queue.read_within

    def read(self, partition: str, *, after: int, bytes_max: int) -> list[Envelope]:
        return self._read(partition, after=after, wait_s=LONG_POLL_S, bytes_max=bytes_max)


def _no_position(after: object) -> UsageError:
    return UsageError(
        f"after is {after!r}; it must be 'now', 'start', or a position that came with a frame, "
        f"such as {{'queue': '…', 'partitions': {{'lab.notes': 17}}}}."
    )


def _another_queue(topic: str, known: str, found: str) -> Conflict:
    return Conflict(
        f"The position of {topic!r} is of queue {known}, but this lake's is {found} now: it was "
        f"made anew. Follow the table after 'start' or 'now'.",
        topic=topic,
        queue=found,
    )


def _missed(partition: str, after: int, trimmed: int | None) -> Trimmed:
    return Trimmed(
        f"Rows of {partition!r} behind position {after} are committed and were trimmed (up to "
        f"{trimmed}) before they were read here; queue.grace_s is how long they are kept. The "
        f"table has them: read it, and follow it after 'start' or 'now'.",
        topic=partition,
        after=after,
        trimmed=trimmed,
    )
