"""A selective lazy read of 10M rows in 40 partitions: ours beside a bare `polars.scan_delta`.

    python -m bench.read [--rows 10_000_000] [--rounds 15] [--folder .bench]

Both ask for the same rows in turns (A B A B), each time from a fresh frame, so each opens the log,
prunes partitions and files, and reads. What ours adds is the check of the declared schema and the
lookup in the catalog. Then: what `import neuralake` costs in a fresh process. Exit code 1 if ours
is more than 1.2 times as slow or the import takes 200 ms.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
from bench.machine import describe

from neuralake.catalog import Catalog
from neuralake.delta import TableLog, create_table
from neuralake.filters import Filter
from neuralake.settings import Settings
from neuralake.tables import DeltaTable

RATIO_MAX = 1.2
IMPORT_MS_MAX = 200.0
PARTITIONS = 40
SCHEMA = pa.schema(
    [
        ("session", pa.string()),
        ("time_us", pa.int64()),
        ("channel", pa.int32()),
        ("count", pa.int16()),
        ("rate", pa.float64()),
    ]
)
SPIKES = DeltaTable("spikes", "spikes", SCHEMA, partition_by=["session"])


def main() -> int:
    """Run the bench; the exit code says whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path(".bench/read"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    catalog = Catalog({"neural": [SPIKES]}, Settings(folder=str(arguments.folder)))
    uri = catalog.uri_of(SPIKES)
    write(uri, arguments.rows)
    print(describe(arguments.folder))
    print(f"{arguments.rows:,} rows in {PARTITIONS} partitions; medians of {arguments.rounds}, ms")
    print(f"{'read':44} {'ours':>8} {'polars':>8} {'ratio':>7}")
    spikes = catalog.db("neural").table
    worst = 0.0
    for name, ours, bare in (
        (
            "one partition, one column, summed",
            lambda: spikes("spikes", Filter("session", "=", "s-07")).select(pl.sum("count")),
            lambda: pl.scan_delta(uri).filter(pl.col("session") == "s-07").select(pl.sum("count")),
        ),
        (
            "one partition, 1% of its rows, all columns",
            lambda: spikes(
                "spikes",
                Filter("session", "=", "s-07"),
                Filter("time_us", "<", arguments.rows // 4000),
            ),
            lambda: pl.scan_delta(uri).filter(
                pl.col("session") == "s-07", pl.col("time_us") < arguments.rows // 4000
            ),
        ),
        (
            "every row, two columns, grouped",
            lambda: spikes("spikes").group_by("channel").agg(pl.sum("count")).sort("channel"),
            lambda: pl.scan_delta(uri).group_by("channel").agg(pl.sum("count")).sort("channel"),
        ),
    ):
        worst = max(worst, compare(name, ours, bare, arguments.rounds))
    import_ms = statistics.median(import_once_ms() for _ in range(arguments.rounds))
    print(f"{'import neuralake, over an empty interpreter':44} {import_ms:8.1f}")
    return int(worst > RATIO_MAX or import_ms > IMPORT_MS_MAX)


def write(uri: str, rows: int) -> None:
    """A table of `rows` rows, one file a partition."""
    create_table(uri, SCHEMA, partition_by=["session"])
    log = TableLog.open(uri)
    each = rows // PARTITIONS
    for session in range(PARTITIONS):
        part = pl.select(
            session=pl.repeat(f"s-{session:02}", each),
            time_us=pl.int_range(each, dtype=pl.Int64),
            channel=(pl.int_range(each) % 256).cast(pl.Int32),
            count=(pl.int_range(each) % 7).cast(pl.Int16),
            rate=(pl.int_range(each) * 0.37 % 11.0).cast(pl.Float64),
        )
        log.append(part.to_arrow().cast(SCHEMA))


def compare(
    name: str, ours: Callable[[], pl.LazyFrame], bare: Callable[[], pl.LazyFrame], rounds: int
) -> float:
    """Print and return the ratio of the medians, after checking that both answers are equal."""
    columns = sorted(bare().collect_schema().names())
    assert ours().collect().select(columns).equals(bare().collect().select(columns))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for read, kept in zip((ours, bare), times, strict=True):
            began = time.perf_counter()
            read().collect()
            kept.append((time.perf_counter() - began) * 1000)
    mine, theirs = map(statistics.median, times)
    print(f"{name:44} {mine:8.2f} {theirs:8.2f} {mine / theirs:7.2f}")
    return mine / theirs


def import_once_ms() -> float:
    """What `import neuralake` adds to the start of a fresh interpreter."""

    def start_ms(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - began) * 1000

    return start_ms("import neuralake") - start_ms("pass")


if __name__ == "__main__":
    sys.exit(main())
