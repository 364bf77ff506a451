"""A partition that is written to all the time has few files, whenever a reader looks."""

from __future__ import annotations

import random

import pyarrow as pa

from neuralake.clock import ManualClock
from neuralake.delta import Compactor, TableLog, Txn, create_table, snapshot
from neuralake.delta.plan import files_max
from neuralake.storage import MemoryStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
COMMITS_PER_ROUND = 10
TARGET = 64 * 1024


def batch(number: int) -> pa.Table:
    """Rows of two partitions, which do not compress."""
    noise = random.Random(number)
    ids = [noise.getrandbits(62) for _ in range(200)]
    return pa.table({"id": ids, "p": ["a", "b"] * 100}, SCHEMA)


def test_files_of_a_continuously_written_partition_stay_bounded_and_no_row_is_lost() -> None:
    """A writer commits ten times between two looks of the compactor, 60 looks long.

    A reader sees at most the files of one interval, those that wait for newer ones, and the full
    ones. In all, each byte is written a few times.
    """
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    create_table(store, SCHEMA, partition_by=["p"], clock=clock)
    log = TableLog.open(store, clock=clock)
    compactor = Compactor(store, target_bytes=TARGET, files_min=4, clock=clock)
    appended = rewritten = number = 0
    most_small = 0
    for _ in range(60):
        for _ in range(COMMITS_PER_ROUND):
            clock.advance(0.1)
            appended += log.append(batch(number), txn=Txn("app", number)).bytes
            number += 1
        most_small = max(most_small, small_files(store))
        rewritten += compactor.run_round().bytes
        most_small = max(most_small, COMMITS_PER_ROUND + small_files(store))

    waiting = files_max(target_bytes=TARGET, files_min=4, bytes_min=800)
    assert most_small <= COMMITS_PER_ROUND + waiting
    found = snapshot(store)
    full = [file for file in found.files if 2 * file.bytes > TARGET]
    assert len(full) >= 5, "most of the rows are in full files, which are not touched again"
    assert sum(file.bytes for file in full) > 0.7 * found.bytes
    assert rewritten <= 8 * appended
    assert found.txn("app") == number - 1
    assert rows_in_order(log, "a") == rows_of(number, "a")
    assert rows_in_order(log, "b") == rows_of(number, "b")


def small_files(store: MemoryStore) -> int:
    """Of the partition that has most of them."""
    small = [file.partition["p"] for file in snapshot(store).files if 2 * file.bytes <= TARGET]
    return max(small.count("a"), small.count("b"))


def rows_of(count: int, partition: str) -> list[int]:
    batches = (batch(number) for number in range(count))
    return [row["id"] for rows in batches for row in rows.to_pylist() if row["p"] == partition]


def rows_in_order(log: TableLog, partition: str) -> list[int]:
    files = [file for file in snapshot(log.store).files if file.partition == {"p": partition}]
    return [i for file in files for rows in log.files.read(file) for i in rows["id"].to_pylist()]
