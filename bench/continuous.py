"""Queries on a table that is written to all the time, against the same rows fully compacted.

Run it as `python -m bench.continuous --minutes 10`. One process commits ten times a second into a
few partitions, as the writer does by default; another runs the maintenance loop with the default
settings. Queries go through the catalog's frames, once a second, and alternate at the end with the
same queries on a copy whose every partition is one file. Both read the same number of rows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import polars as pl
import pyarrow as pa
from bench.machine import describe

from neuralake import delta
from neuralake.catalog import Catalog, Database
from neuralake.delta import TableLog, Txn
from neuralake.frame import scan_delta
from neuralake.maintain import run_compaction
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import DeltaTable, Stream
from neuralake.telemetry import quantile

SCHEMA = pa.schema(
    [
        ("session", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int32()),
        ("count", pa.int16()),
    ]
)
SPAWN = multiprocessing.get_context("spawn")


SPIKES = DeltaTable(
    name="spikes", uri="spikes", schema=SCHEMA, partition_by=["session"], stream=Stream()
)


def batch(number: int, rows: int, sessions: int) -> pa.Table:
    first = number * rows
    return pa.table(
        {
            "session": [f"s-{i % sessions}" for i in range(rows)],
            "time": [1_700_000_000_000_000 + 20_000 * (first + i) for i in range(rows)],
            "channel": [i % 256 for i in range(rows)],
            "count": [i * i % 17 for i in range(rows)],
        },
        SCHEMA,
    )


def ingest(uri: str, rows: int, sessions: int, stop: Event) -> None:
    log, number, due_s = TableLog.open(uri), 0, time.monotonic()
    while not stop.is_set():
        log.append(batch(number, rows, sessions), txn=Txn("bench", number))
        number, due_s = number + 1, due_s + 0.1
        time.sleep(max(0.0, due_s - time.monotonic()))


def maintain(root: str, stop: Event) -> None:
    ending = threading.Event()

    def wait() -> None:
        stop.wait()
        ending.set()

    threading.Thread(target=wait, daemon=True).start()
    run_compaction(catalog_at(root), stop=ending)


def catalog_at(root: str) -> Catalog:
    return Catalog({"bench": Database([SPIKES])}, Settings(lake=LakeSettings(root=root)))


def queries(catalog: Catalog) -> dict[str, pl.LazyFrame]:
    frame = catalog.db("bench").table("spikes")
    return {
        "one session, summed": frame.filter(pl.col("session") == "s-1").select(
            pl.len(), pl.col("count").cast(pl.Int64).sum()
        ),
        "all rows, by channel": frame.group_by("channel").agg(pl.col("count").sum()),
    }


def ask(query: pl.LazyFrame) -> float:
    begin = time.perf_counter()
    query.collect()
    return (time.perf_counter() - begin) * 1000


def compacted(uri: str, copy: str) -> None:
    """The same rows in one file per partition, written by our own engine."""
    rows = scan_delta(uri, SCHEMA).sort("session", "time").collect().to_arrow().cast(SCHEMA)
    delta.create_table(copy, SCHEMA, partition_by=["session"])
    TableLog.open(copy).append(rows)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=2.0)
    arguments.add_argument("--rows", type=int, default=2000, help="rows of a commit")
    arguments.add_argument("--sessions", type=int, default=4, help="partitions")
    arguments.add_argument("--folder", type=Path, default=None, help="where the table goes")
    given = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-continuous-", dir=given.folder))
    print(describe(root))
    try:
        measure(root, given)
    finally:
        shutil.rmtree(root)


def measure(root: Path, given: argparse.Namespace) -> None:
    uri, stop = str(root / "spikes"), SPAWN.Event()
    delta.create_table(uri, SCHEMA, partition_by=["session"])
    processes = [
        SPAWN.Process(target=ingest, args=(uri, given.rows, given.sessions, stop)),
        SPAWN.Process(target=maintain, args=(str(root), stop)),
    ]
    for process in processes:
        process.start()
    catalog = catalog_at(str(root))
    files, busy = watch(catalog, uri, given.minutes * 60)
    stop.set()
    for process in processes:
        process.join()
    copied = catalog_at(str(root / "copy"))
    compacted(uri, str(root / "copy" / "spikes"))
    report(catalog, copied, uri, files, busy)


def watch(catalog: Catalog, uri: str, seconds: float) -> tuple[list[int], dict[str, list[float]]]:
    """Live files seen, and milliseconds of each query, once a second while the table grows."""
    files: list[int] = []
    times: dict[str, list[float]] = {name: [] for name in queries(catalog)}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1.0)
        files.append(len(delta.snapshot(uri).files))
        for name, query in queries(catalog).items():
            times[name].append(ask(query))
    return files, times


def report(
    catalog: Catalog,
    copied: Catalog,
    uri: str,
    files: list[int],
    busy: dict[str, list[float]],
) -> None:
    quarters = [files[i * len(files) // 4 : (i + 1) * len(files) // 4] for i in range(4)]
    print(f"\nlive files, median and most, by quarter of {len(files)} s: ", end="")
    print(", ".join(f"{sorted(part)[len(part) // 2]} and {max(part)}" for part in quarters if part))
    print(f"{delta.snapshot(uri).rows} rows; the table was written to and compacted meanwhile")
    for name in busy:
        still, best = queries(catalog)[name], queries(copied)[name]
        sides: tuple[list[float], list[float]] = ([], [])
        for _ in range(20):
            sides[0].append(ask(still))
            sides[1].append(ask(best))
        late = busy[name][len(busy[name]) * 3 // 4 :]
        base = quantile(sides[1], 0.5)
        print(
            f"  {name:<24} while written p50 {quantile(late, 0.5):7.1f} ms "
            f"({quantile(late, 0.5) / base:.2f}x)   at rest {quantile(sides[0], 0.5):7.1f} ms "
            f"({quantile(sides[0], 0.5) / base:.2f}x)   one file a partition {base:7.1f} ms"
        )


if __name__ == "__main__":
    main()
