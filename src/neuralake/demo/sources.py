"""What the demo sends: batches that are due, each in the format that fits it.

A source turns elapsed time into the rows that a device would have by then: `due(elapsed_s)` gives
the next batch, or None if nothing new has happened. A batch is immutable bytes: sent again, it is
the same. Event ids of a source are 0, 1, 2, … without gaps, so a batch is a range of ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import polars as pl
import pyarrow as pa

from neuralake.demo.neural import BIN_S, CHANNELS, NeuralSession

__all__ = ["Batch", "CursorSource", "ReplaySource", "Source", "SpikeSource", "bin_end"]

ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows with the event ids `first_id` to `first_id + rows - 1`, as one request's body."""

    first_id: int
    rows: int
    content_type: str
    body: bytes


class Source(Protocol):
    """Rows as time passes."""

    table: str
    """`database.table`."""
    interval_s: float
    """How often to ask."""

    def due(self, elapsed_s: float) -> Batch | None:
        """The next batch of what has happened `elapsed_s` after the start; None: nothing new."""

    def is_over(self, elapsed_s: float) -> bool:
        """Whether nothing more will come; `due` has given everything before that."""


class ReplaySource:
    """Rows of a frame in the order of its `time` column, `speed_up` times as fast, as NDJSON."""

    def __init__(
        self,
        table: str,
        rows: pl.DataFrame,
        *,
        begin: datetime,
        speed_up: float,
        interval_s: float = 0.05,
        rows_max: int = 20_000,
    ) -> None:
        self.table = table
        self.interval_s = interval_s
        self._times = rows["time"]
        self._rows = rows.with_columns(
            pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            for name, kind in rows.schema.items()
            if kind == pl.Datetime
        )
        self._begin, self._speed_up, self._rows_max = begin, speed_up, rows_max
        self._next = 0

    def due(self, elapsed_s: float) -> Batch | None:
        """What left until now in the time of the data."""
        happened = int(self._times.search_sorted(self.data_time(elapsed_s), side="right"))
        rows = self._rows[self._next : min(happened, self._next + self._rows_max)]
        if rows.is_empty():
            return None
        batch = Batch(self._next, len(rows), NDJSON, rows.write_ndjson().encode())
        self._next += len(rows)
        return batch

    def is_over(self, elapsed_s: float) -> bool:
        """Whether every row has been given."""
        del elapsed_s
        return self._next >= len(self._times)

    def data_time(self, elapsed_s: float) -> datetime:
        """The moment in the data that is replayed now."""
        return self._begin + timedelta(seconds=elapsed_s * self._speed_up)


class CursorSource:
    """One JSON event every 20 ms, as an app would send it."""

    table = "neural.cursor"
    interval_s = BIN_S

    def __init__(self, session: NeuralSession, name: str, *, start_s: float) -> None:
        self._session, self._name, self._start_s = session, name, start_s
        self._next = 0

    def due(self, elapsed_s: float) -> Batch | None:
        """The next bin's event, once the bin is over; several if the sender was held up."""
        done = int(elapsed_s / BIN_S)
        if done <= self._next:
            return None
        numbers = range(self._next, min(done, self._next + 500))
        events = [self._event(number) for number in numbers]
        self._next = numbers.stop
        return Batch(numbers.start, len(events), JSON, json.dumps(events).encode())

    def is_over(self, elapsed_s: float) -> bool:
        """A session goes on as long as it is watched."""
        del elapsed_s
        return False

    def _event(self, number: int) -> dict[str, object]:
        now = self._session.movement(number)
        return {
            "event_id": number,
            "session": self._name,
            "time": bin_end(self._start_s, number).isoformat(),
            "bin": number,
            "x": now.x,
            "y": now.y,
            "vx": now.vx,
            "vy": now.vy,
            "target_x": now.target_x,
            "target_y": now.target_y,
        }


class SpikeSource:
    """Counts of all channels, five bins to a request, as an Arrow IPC stream."""

    table = "neural.spikes"
    interval_s = 5 * BIN_S

    def __init__(self, session: NeuralSession, name: str, *, start_s: float) -> None:
        self._session, self._name, self._start_s = session, name, start_s
        self._next = 0

    def due(self, elapsed_s: float) -> Batch | None:
        """The bins that are over; at most two seconds of them."""
        done = int(elapsed_s / BIN_S)
        if done <= self._next:
            return None
        numbers = range(self._next, min(done, self._next + 100))
        self._next = numbers.stop
        table = self._rows(numbers)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        body = sink.getvalue().to_pybytes()
        return Batch(numbers.start * CHANNELS, table.num_rows, ARROW, body)

    def is_over(self, elapsed_s: float) -> bool:
        """A session goes on as long as it is watched."""
        del elapsed_s
        return False

    def _rows(self, numbers: range) -> pa.Table:
        """Rows of `neural.spikes`, sorted by bin and channel."""
        bins = [number for number in numbers for _ in range(CHANNELS)]
        ends = [end for number in numbers for end in [bin_end(self._start_s, number)] * CHANNELS]
        first = numbers.start * CHANNELS
        counts = [count for number in numbers for count in self._session.counts(number)]
        return pa.table(
            {
                "event_id": pa.array(range(first, first + len(bins)), pa.int64()),
                "session": pa.array([self._name] * len(bins), pa.string()),
                "time": pa.array(ends, pa.timestamp("us", tz="UTC")),
                "bin": pa.array(bins, pa.int32()),
                "channel": pa.array(list(range(CHANNELS)) * len(numbers), pa.int32()),
                "count": pa.array(counts, pa.int32()),
            }
        )


def bin_end(start_s: float, number: int) -> datetime:
    """When bin `number` of a session that began at `start_s` (Unix seconds) was over."""
    return datetime.fromtimestamp(start_s, UTC) + timedelta(seconds=(number + 1) * BIN_S)
