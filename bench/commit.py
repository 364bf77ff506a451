"""How long a durable append takes: against deltalake, at any age of the table, and at best.

Run it as `python -m bench.commit`. Each comparison alternates its sides in blocks (A B A B …), so
that a busy machine troubles both alike; trust the ratios. Ours syncs data, log entry and folders
before it returns. deltalake syncs nothing, and is given its best case: one kept handle.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pyarrow as pa
from bench.machine import describe
from deltalake import DeltaTable, write_deltalake

from neuralake.delta import TableLog, Txn, checkpoint, create_table
from neuralake.storage import LocalStore
from neuralake.telemetry import quantile

SCHEMA = pa.schema(
    [
        ("session", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int32()),
        ("count", pa.int16()),
    ]
)
Step = Callable[[], object]


def batch(rows: int) -> pa.Table:
    return pa.table(
        {
            "session": ["s-12"] * rows,
            "time": [1_700_000_000_000_000 + 20_000 * i for i in range(rows)],
            "channel": [i % 256 for i in range(rows)],
            "count": [i * i % 17 for i in range(rows)],
        },
        SCHEMA,
    )


class HastyStore(LocalStore):
    """Ours without a sync of folders and in memory's speed: only to fill tables before timing."""

    def _write_new(self, path: str, data: bytes | memoryview) -> None:
        try:
            Path(path).write_bytes(data)
        except FileNotFoundError:
            self._make_folder(str(Path(path).parent))
            Path(path).write_bytes(data)

    def _sync_folder(self, path: str) -> None:
        pass


def table_at(uri: Path, version: int, rows: pa.Table) -> str:
    """A table partitioned by session with `version` appends of `rows`."""
    create_table(str(uri), SCHEMA, partition_by=["session"])
    log = TableLog.open(HastyStore(uri))
    for number in range(version):
        log.append(rows, txn=Txn("fill", number))
    return str(uri)


def ours(uri: str, rows: pa.Table) -> Step:
    log, numbers = TableLog.open(uri), count()
    return lambda: log.append(rows, txn=Txn("bench", next(numbers)))


def theirs(uri: str, rows: pa.Table) -> Step:
    table = DeltaTable(uri)
    return lambda: write_deltalake(table, rows, mode="append")


def bare(folder: Path, data: bytes, entry: bytes) -> Step:
    """The same bytes with the same syncs by system calls alone: what no engine can undercut."""
    (folder / "_delta_log").mkdir(parents=True)
    (folder / "session=s-12").mkdir()
    numbers = count()

    def write(path: str, content: bytes) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(file, content)
        os.fsync(file)
        os.close(file)

    def sync(path: Path) -> None:
        opened = os.open(path, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)

    def step() -> None:
        write(f"{folder}/session=s-12/{uuid.uuid4().hex}.parquet", data)
        sync(folder / "session=s-12")
        aside = f"{folder}/_delta_log/.{uuid.uuid4().hex}.tmp"
        write(aside, entry)
        os.link(aside, f"{folder}/_delta_log/{next(numbers):020d}.json")
        os.unlink(aside)  # noqa: PTH108 as the store does it
        sync(folder / "_delta_log")

    return step


def alternate(sides: Sequence[Step], *, blocks: int, each: int) -> list[list[float]]:
    """Milliseconds of every call of each side, taken in alternating blocks after a warm-up."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(blocks):
        for side, taken in zip(sides, times, strict=True):
            for _ in range(each):
                begin = time.perf_counter()
                side()
                taken.append((time.perf_counter() - begin) * 1000)
    return times


def show(name: str, times: list[float], base: list[float] | None = None) -> None:
    p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
    ratio = f"{p50 / quantile(base, 0.5):8.2f}x" if base else "         "
    print(f"  {name:<46} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms {ratio}   n {len(times)}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=100, help="rows of an append")
    arguments.add_argument("--peer-version", type=int, default=1000)
    arguments.add_argument("--old-version", type=int, default=10_000)
    arguments.add_argument("--young-version", type=int, default=100)
    arguments.add_argument("--blocks", type=int, default=5)
    arguments.add_argument("--each", type=int, default=40, help="our appends in a block")
    arguments.add_argument("--peer-each", type=int, default=8, help="their appends in a block")
    arguments.add_argument("--folder", type=Path, default=None, help="where the tables go")
    given = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-commit-", dir=given.folder))
    rows = batch(given.rows)
    print(describe(root))
    try:
        against_deltalake(root, rows, given)
        by_age(root, rows, given)
        against_the_floor(root, rows, given)
    finally:
        shutil.rmtree(root)


def against_deltalake(root: Path, rows: pa.Table, given: argparse.Namespace) -> None:
    for kind in ("plain log", "with a checkpoint"):
        print(f"\nappend of {len(rows)} rows at version {given.peer_version}, {kind}")
        uri = table_at(root / f"ours {kind}".replace(" ", "-"), given.peer_version, rows)
        if kind == "with a checkpoint":
            checkpoint(uri)
        copied = shutil.copytree(uri, uri + "-theirs")
        mine, peer = ours(uri, rows), theirs(copied, rows)
        mine(), peer()
        times: list[list[float]] = [[], []]
        for _ in range(given.blocks):
            times[0] += alternate([mine], blocks=1, each=given.each)[0]
            times[1] += alternate([peer], blocks=1, each=given.peer_each)[0]
        show("ours, durable", times[0])
        show("write_deltalake on a kept handle, no sync", times[1], times[0])


def by_age(root: Path, rows: pa.Table, given: argparse.Namespace) -> None:
    print(f"\nappend of {len(rows)} rows by the age of the table (target: at most 1.3x)")
    young = ours(table_at(root / "young", given.young_version, rows), rows)
    old = ours(table_at(root / "old", given.old_version, rows), rows)
    times = alternate([young, old], blocks=given.blocks, each=given.each)
    show(f"ours at version {given.young_version}", times[0])
    show(f"ours at version {given.old_version}", times[1], times[0])


def against_the_floor(root: Path, rows: pa.Table, given: argparse.Namespace) -> None:
    print("\nthe floor: the same bytes and syncs by bare system calls")
    uri = table_at(root / "floor", given.young_version, rows)
    log = Path(uri, "_delta_log")
    entry = (log / f"{given.young_version:020d}.json").read_bytes()
    data = next(Path(uri).rglob("part-*.parquet")).read_bytes()
    sides = [bare(root / "bare", data, entry), ours(uri, rows)]
    times = alternate(sides, blocks=given.blocks, each=given.each)
    show(f"bare calls, {len(data)} + {len(entry)} bytes", times[0])
    show("ours, durable", times[1], times[0])
    hasty, numbers = TableLog.open(HastyStore(uri)), count()
    (quick,) = alternate(
        [lambda: hasty.append(rows, txn=Txn("hasty", next(numbers)))], blocks=1, each=200
    )
    show("ours without any sync (our own work)", quick)


if __name__ == "__main__":
    main()
