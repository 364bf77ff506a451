"""Several processes that append to one table at once: commits a second in all, and who starves.

Run it as `python -m bench.writers`. Every writer appends as fast as it can; the table is checked
afterwards: each acknowledged row once. The peer is `write_deltalake` on a kept handle, as many
processes, the same batches; it syncs nothing. Sides alternate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pyarrow as pa
from bench.machine import describe
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from neuralake.delta import TableLog, Txn, create_table
from neuralake.telemetry import quantile

SCHEMA = pa.schema([("writer", pa.int32()), ("number", pa.int64()), ("value", pa.float64())])
# Fork and the libraries' threads do not go together.
SPAWN = multiprocessing.get_context("spawn")


def batch(writer: int, number: int, rows: int) -> pa.Table:
    return pa.table(
        {
            "writer": [writer] * rows,
            "number": [number * rows + i for i in range(rows)],
            "value": [float(i) for i in range(rows)],
        },
        SCHEMA,
    )


def ours(uri: str, writer: int, rows: int) -> Callable[[int], object]:
    log = TableLog.open(uri)
    return lambda number: log.append(batch(writer, number, rows), txn=Txn(f"w-{writer}", number))


def theirs(uri: str, writer: int, rows: int) -> Callable[[int], object]:
    table = DeltaTable(uri)

    def append(number: int) -> None:
        while True:
            try:
                write_deltalake(table, batch(writer, number, rows), mode="append")
            except CommitFailedError:
                table.update_incremental()
            else:
                return

    return append


def work(
    side: str, uri: str, writer: int, rows: int, seconds: float, start: Barrier, done: Any
) -> None:
    append = {"ours": ours, "deltalake": theirs}[side](uri, writer, rows)
    start.wait()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        append(len(times))
        times.append((time.perf_counter() - begin) * 1000)
    done.put((writer, times))


def race(side: str, uri: str, writers: int, rows: int, seconds: float) -> list[list[float]]:
    """Milliseconds of every commit of each writer."""
    create_table(uri, SCHEMA)
    start, done = SPAWN.Barrier(writers), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=work, args=(side, uri, writer, rows, seconds, start, done))
        for writer in range(writers)
    ]
    for process in processes:
        process.start()
    found = dict(done.get(timeout=seconds + 120) for _ in processes)
    for process in processes:
        process.join()
    times = [found[writer] for writer in range(writers)]
    check(uri, times, rows)
    return times


def check(uri: str, times: list[list[float]], rows: int) -> None:
    """Each acknowledged row is in the table once."""
    read = pl.scan_delta(uri).select("writer", "number").collect()
    assert read.height == read.n_unique() == sum(len(each) for each in times) * rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--writers", type=int, default=4)
    arguments.add_argument("--rows", type=int, default=10, help="rows of an append")
    arguments.add_argument("--seconds", type=float, default=8.0, help="of each round")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--folder", type=Path, default=None, help="where the tables go")
    given = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-writers-", dir=given.folder))
    print(describe(root))
    print(f"\n{given.writers} processes on one table, {given.rows} rows a commit")
    rates: dict[str, list[float]] = {"ours": [], "deltalake": []}
    try:
        for number in range(given.rounds):
            for side, found in rates.items():
                uri = str(root / f"{side}-{number}")
                times = race(side, uri, given.writers, given.rows, given.seconds)
                counts = sorted(len(each) for each in times)
                every = [taken for each in times for taken in each]
                found.append(len(every) / given.seconds)
                print(
                    f"  {side:<10} {found[-1]:8.1f} commits/s   "
                    f"p50 {quantile(every, 0.5):7.1f} ms   p99 {quantile(every, 0.99):8.1f} ms   "
                    f"fastest/slowest writer {counts[-1] / max(counts[0], 1):5.2f}x"
                )
        mine, peer = median(rates["ours"]), median(rates["deltalake"])
        print(f"  median: ours {mine:.0f}, deltalake {peer:.0f} commits/s: {mine / peer:.1f}x")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
