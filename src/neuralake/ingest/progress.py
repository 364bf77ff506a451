"""How far the rows of one stream table are: what the queue keeps, and what the table's log holds.

The same for each table, whoever feeds it. Over Kafka a position is an offset and one, the newest is
the partition's high watermark (of transactions, what is committed), and rows are messages.
"""

from __future__ import annotations

from typing import Any

from neuralake.clock import Clock
from neuralake.errors import Trimmed
from neuralake.ingest.target import Flow

__all__ = ["progress"]


def progress(flow: Flow, *, clock: Clock) -> dict[str, Any]:
    """What `GET /v1/{database}/{table}` answers; it waits for the queue and the store.

    Raises:
        UnknownName: Kafka has no such topic.
        Unavailable: the queue or the store do not answer.
    """
    queue = flow.queue
    names = queue.partitions(flow.topic)
    bounds = [queue.bounds(name) for name in names]
    committed = flow.watch.look_now(names)
    marks = [committed.positions[name] for name in names]
    lags_s = [_lag_s(flow, *at, clock=clock) for at in zip(names, marks, strict=True)]
    return {
        "database": flow.database,
        "table": flow.table,
        "queue": queue.id,
        "columns": [
            {"name": field.name, "type": str(field.type), "nullable": field.nullable}
            for field in flow.schema
        ],
        "partition_by": list(flow.partition_by),
        # Of all partitions together: they grow with every row, and are equal when all is in.
        "position": sum(found.last for found in bounds),
        "committed_position": sum(marks),
        "version": committed.version,
        "lag_s": max(lags_s, default=0.0),
        "partitions": [
            {
                "partition": name,
                "position": found.last,
                "committed_position": mark,
                "trimmed_position": found.trimmed,
                "rows": found.rows,
                "bytes": found.bytes,
                "lag_s": lag_s,
            }
            for name, found, mark, lag_s in zip(names, bounds, marks, lags_s, strict=True)
        ],
    }


def _lag_s(flow: Flow, partition: str, committed: int, *, clock: Clock) -> float:
    """Age of the oldest stored row of `partition` that is not in the table; 0 if all are."""
    try:
        oldest_s = flow.queue.backlog(partition, after=committed).oldest_s
    except Trimmed:
        return 0.0  # Trimmed is committed, so a commit came between the two looks.
    return 0.0 if oldest_s is None else max(0.0, clock.now_s() - oldest_s)
