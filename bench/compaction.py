"""How quickly small files become large ones, and in how much memory.

Run it as `python -m bench.compaction --gib 10`. The input is a table of many small files, as a
writer leaves it; each side compacts a copy of it in a process of its own, whose CPU time and peak
memory the kernel tells. The peer is deltalake's `optimize.compact`, alone on its copy.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from bench.machine import describe
from deltalake import DeltaTable

from neuralake.delta import TableLog, compact_once, create_table, snapshot
from neuralake.delta.actions import Add, CommitInfo
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.files import store_name
from neuralake.delta.snapshot import DataFile

SCHEMA = pa.schema(
    [
        ("session", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int32()),
        ("count", pa.int16()),
        ("value", pa.float64()),
        ("note", pa.string()),
    ]
)
MIB = 2**20
DISTINCT = 200
SPAWN = multiprocessing.get_context("spawn")


def batch(number: int, rows: int) -> pa.Table:
    """Rows that compress as measurements do: some columns well, a noisy one hardly."""
    noise, first = pc.random(rows, initializer=number), number * rows
    numbers = pa.array(range(first, first + rows))
    return pa.table(
        {
            "session": pa.repeat("s-1", rows),
            "time": pc.add(1_700_000_000_000_000, pc.multiply(numbers, 500)),
            "channel": pc.floor(pc.multiply(noise, 384)).cast(pa.int32()),
            "count": pc.floor(pc.multiply(noise, 16)).cast(pa.int16()),
            "value": noise,
            "note": pc.binary_join_element_wise(
                "trial", pc.divide(numbers, 1000).cast(pa.string()), " "
            ),
        }
    ).cast(SCHEMA)


def fill(uri: str, input_bytes: int, rows: int) -> None:
    """Small files as a writer leaves them; past some hundred, the same again under other names."""
    create_table(uri, SCHEMA, partition_by=["session"])
    log, written, number = TableLog.open(uri), 0, 0
    while written < input_bytes and number < DISTINCT:
        written += log.append(batch(number, rows)).bytes
        number += 1
    own = snapshot(uri).files
    while written < input_bytes:
        adds = [repeated(uri, file) for file in own]
        log.commit(
            partial(_unchanged, adds),
            CommitInfo(operation="WRITE", is_blind_append=True),
            footprint=Footprint(Operation.APPEND),
        )
        written += sum(add.size for add in adds)


def _unchanged(adds: list[Add], _: object) -> list[Add]:
    """What is committed, whatever else the table has."""
    return adds


def repeated(uri: str, file: DataFile) -> Add:
    """Another file of the same rows: a second name of the same bytes, on the disk."""
    path = file.path.replace("part-", f"part-{uuid.uuid4().hex}-")
    os.link(Path(uri, store_name(file.path)), Path(uri, store_name(path)))
    return Add(
        path=path,
        partition_values=file.partition,
        size=file.bytes,
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=file.stats,
    )


def compact(side: str, uri: str, target_bytes: int, done: Any) -> None:
    begin, used = time.perf_counter(), _cpu_s()
    if side == "ours":
        while compact_once(uri, target_bytes=target_bytes, files_min=2).files_removed:
            pass
    else:
        DeltaTable(uri).optimize.compact(target_size=target_bytes)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    done.put((time.perf_counter() - begin, _cpu_s() - used, peak_bytes))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def idle(_: str, __: str, ___: int, done: Any) -> None:
    """What the imports alone take of memory."""
    done.put((0.0, 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gib", type=float, default=0.5, help="input")
    arguments.add_argument("--rows", type=int, default=100_000, help="rows of a small file")
    arguments.add_argument("--target-mib", type=int, default=128)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--alone", action="store_true", help="without the peer")
    arguments.add_argument("--folder", type=Path, default=None, help="where the tables go")
    given = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-compaction-", dir=given.folder))
    print(describe(root))
    try:
        measure(root, given)
    finally:
        shutil.rmtree(root)


def measure(root: Path, given: argparse.Namespace) -> None:
    source = str(root / "source")
    fill(source, int(given.gib * 2**30), given.rows)
    found = snapshot(source)
    total = found.bytes
    print(f"\n{total / MIB:.0f} MiB in {len(found.files)} files, {found.rows} rows")
    _, _, base_bytes = in_process(idle, "", "", 0)
    for _ in range(given.rounds):
        for side in ("ours",) if given.alone else ("ours", "deltalake"):
            copy = shutil.copytree(source, root / side, copy_function=os.link)
            took_s, cpu_s, peak_bytes = in_process(compact, side, str(copy), given.target_mib * MIB)
            after = snapshot(str(copy))
            assert after.rows == found.rows
            check(source, str(copy))
            print(
                f"  {side:<10} {total / MIB / took_s:7.0f} MiB/s   "
                f"{total / MIB / cpu_s:7.0f} MiB per CPU second   {len(after.files):4} files   "
                f"peak memory {peak_bytes / MIB:6.0f} MiB ({base_bytes / MIB:.0f} of it imports)"
            )
            shutil.rmtree(copy)


def in_process(target: Any, side: str, uri: str, target_bytes: int) -> tuple[float, float, int]:
    done = SPAWN.Queue()
    process = SPAWN.Process(target=target, args=(side, uri, target_bytes, done))
    process.start()
    found: tuple[float, float, int] = done.get()
    process.join()
    return found


def check(source: str, copy: str) -> None:
    """The same sums of every number, in a streaming read."""
    sums = [
        pl.scan_delta(uri)
        .select(pl.len(), pl.col("channel").sum(), pl.col("value").sum().round(3))
        .collect(engine="streaming")
        .row(0)
        for uri in (source, copy)
    ]
    assert sums[0][:2] == sums[1][:2]
    assert abs(sums[0][2] - sums[1][2]) < 1


if __name__ == "__main__":
    main()
