"""A stream table on disk, the public in-memory queue, and a clock that tests turn.

Shared by the tests of every stage that moves rows from a queue into a table.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, create_table
from neuralake.queue import Amount, MemoryQueue
from neuralake.writer import FlushLimits, TopicWriter

TOPIC = "lab.events"
SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string())])
LIMITS = FlushLimits(age_ms_max=100, rows_max=1000, bytes_max=1_000_000)

KEPT_MAX = Amount(1 << 30, 1 << 30)


def payload(*ids: int) -> bytes:
    """One envelope's Arrow stream of rows with `ids`, over two partitions."""
    rows = pa.table({"id": list(ids), "site": [f"s{i % 2}" for i in ids]}, schema=SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())


class StreamLake:
    """One topic and its table."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder / "events")
        self.clock = ManualClock()
        self.queue = MemoryQueue(clock=self.clock)
        create_table(self.uri, SCHEMA, partition_by=["site"])

    def send(self, *ids: int) -> int:
        return self.queue.append(TOPIC, payload(*ids), len(ids)).position

    def writer(self, *, grace_s: float = 0.0, kept_max: Amount = KEPT_MAX) -> TopicWriter:
        return TopicWriter(
            self.queue,
            TOPIC,
            TableLog.open(self.uri, clock=self.clock),
            LIMITS,
            grace_s=grace_s,
            kept_max=kept_max,
            clock=self.clock,
        )

    def ids(self) -> list[int]:
        return sorted(pl.scan_delta(self.uri).collect()["id"].to_list())
