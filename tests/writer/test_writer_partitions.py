"""A topic with several partitions: each has its own mark in the table, and its own troubles."""

from __future__ import annotations

import threading
from pathlib import Path

from partitioned_queue import PartitionedQueue
from stream_lake import SCHEMA, TOPIC, payload

import neuralake as nl
from neuralake.clock import ManualClock
from neuralake.delta import snapshot
from neuralake.queue import Queue
from neuralake.queue.topic import app_id
from neuralake.settings import LakeSettings, Settings
from neuralake.writer import run_writer

EVENTS = nl.DeltaTable(name="events", uri="events", schema=SCHEMA, stream=nl.Stream())


class Lake(nl.Catalog):
    """One stream table over the queue that it is given."""

    def __init__(self, folder: Path, queue: PartitionedQueue) -> None:
        super().__init__({"lab": [EVENTS]}, Settings(lake=LakeSettings(root=str(folder))))
        self.partitioned = queue

    def queue(self) -> Queue:
        return self.partitioned

    def write(self) -> None:
        """All that `claim` gives, as a writer that is told to stop does it."""
        stop = Stopped(rounds=2)
        run_writer(self, stop=stop, clock=ManualClock())

    def mark(self, partition: str) -> int | None:
        found = snapshot(self.store_of(EVENTS))
        return found.txn(app_id(self.partitioned.id, partition))

    def ids(self) -> list[int]:
        return self.db("lab").table("events").collect()["id"].to_list()


class Stopped(threading.Event):
    """An event that is set after it was asked `rounds` times."""

    def __init__(self, *, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    def is_set(self) -> bool:
        self._rounds -= 1
        return self._rounds < 0


def test_the_table_has_every_row_once_and_a_mark_for_each_partition(tmp_path: Path) -> None:
    queue = PartitionedQueue()
    lake = Lake(tmp_path, queue)
    for i in range(5):
        queue.append(TOPIC, payload(i), 1)

    lake.write()
    lake.write()

    assert sorted(lake.ids()) == [0, 1, 2, 3, 4]
    assert [lake.mark(name) for name in queue.partitions(TOPIC)] == [3, 2]


def test_only_what_is_claimed_is_written(tmp_path: Path) -> None:
    queue = PartitionedQueue()
    lake = Lake(tmp_path, queue)
    for i in range(4):
        queue.append(TOPIC, payload(i), 1)

    queue.claimed = [1]
    lake.write()
    assert sorted(lake.ids()) == [1, 3]

    queue.claimed = [0]
    lake.write()
    assert sorted(lake.ids()) == [0, 1, 2, 3]


def test_a_damaged_partition_does_not_stop_the_other(tmp_path: Path) -> None:
    queue = PartitionedQueue()
    lake = Lake(tmp_path, queue)
    queue.append(TOPIC, b"not rows", 1)
    queue.append(TOPIC, payload(7), 1)

    lake.write()

    assert lake.ids() == [7]
    damaged, whole = queue.partitions(TOPIC)
    assert (lake.mark(damaged), lake.mark(whole)) == (None, 1)
