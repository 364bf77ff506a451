"""A writer process that tests kill: `python writer_child.py QUEUE TABLE`. Says when it is ready."""

from __future__ import annotations

import sys
from pathlib import Path

from stream_lake import LIMITS, TOPIC

from neuralake.delta import TableLog
from neuralake.queue import SqliteQueue
from neuralake.writer import TopicWriter


def main(queue_path: str, uri: str) -> None:
    queue = SqliteQueue(Path(queue_path))
    writer = TopicWriter(queue, TOPIC, TableLog.open(uri), LIMITS, grace_s=0.0)
    print("ready", flush=True)
    while True:
        writer.step(flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
