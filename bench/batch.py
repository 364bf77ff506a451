"""Delete from and merge into a table of 10M rows: ours beside deltalake's own, in one run.

    python -m bench.batch [--rows 10_000_000] [--rounds 3] [--folder .bench/batch]

Each measurement gets a fresh copy of the same table (40 files, unpartitioned, in order of time) and
they take turns (A B A B). Both must leave equal rows. Ours syncs what it stores, deltalake's does
not. Exit code 1 if ours takes more than 1.5 times as long in one of them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
from bench.machine import describe
from deltalake import DeltaTable

from neuralake.batch import BatchWriter
from neuralake.delta import TableLog, create_table
from neuralake.filters import Filter

RATIO_MAX = 1.5
FILES = 40
SCHEMA = pa.schema(
    [
        ("time_us", pa.int64()),
        ("session", pa.string()),
        ("channel", pa.int32()),
        ("count", pa.int16()),
        ("rate", pa.float64()),
    ]
)
Write = Callable[[str], object]


def main() -> int:
    """Run the bench; the exit code says whether ours keeps up everywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".bench/batch"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    origin, rows = arguments.folder / "origin", arguments.rows
    make(str(origin), rows)
    print(describe(arguments.folder))
    print(f"{rows:,} rows in {FILES} files; medians of {arguments.rounds}, seconds")
    print(f"{'write':44} {'ours':>8} {'deltalake':>10} {'ratio':>7}")
    slowest = 0.0
    for name, ours, theirs in cases(rows):
        found = compare(origin, name, ours, theirs, arguments.rounds)
        slowest = max(slowest, found)
    shutil.rmtree(arguments.folder)
    return int(slowest > RATIO_MAX)


def cases(rows: int) -> list[tuple[str, Write, Write]]:
    """Each write in our words and in deltalake's."""
    few = source(range(rows // 2, rows // 2 + 10_000))
    spread = source(range(0, rows * 101 // 100, max(1, rows // 100_000)))
    return [
        (
            "delete 1% at the end, by time",
            lambda uri: BatchWriter(uri).delete(Filter("time_us", ">=", rows - rows // 100)),
            lambda uri: DeltaTable(uri).delete(f"time_us >= {rows - rows // 100}"),
        ),
        (
            "delete one of 256 channels, in every file",
            lambda uri: BatchWriter(uri).delete(Filter("channel", "=", 7)),
            lambda uri: DeltaTable(uri).delete("channel = 7"),
        ),
        ("merge 10,000 rows of one file", lambda uri: ours(uri, few), lambda uri: rival(uri, few)),
        (
            "merge 101,000 rows, into every file",
            lambda uri: ours(uri, spread),
            lambda uri: rival(uri, spread),
        ),
    ]


def ours(uri: str, rows: pa.Table) -> None:
    BatchWriter(uri).merge(rows, on="time_us")


def rival(uri: str, rows: pa.Table) -> None:
    (
        DeltaTable(uri)
        .merge(
            rows, "target.time_us = source.time_us", source_alias="source", target_alias="target"
        )
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )


def source(times: range) -> pa.Table:
    frame = pl.DataFrame({"time_us": pl.Series(times, dtype=pl.Int64)}).with_columns(
        session=pl.lit("new"),
        channel=pl.lit(300, pl.Int32),
        count=pl.lit(0, pl.Int16),
        rate=pl.lit(0.5),
    )
    return frame.to_arrow().cast(SCHEMA)


def make(uri: str, rows: int) -> None:
    create_table(uri, SCHEMA)
    log = TableLog.open(uri)
    each = rows // FILES
    for number in range(FILES):
        first = number * each
        part = pl.select(
            time_us=pl.int_range(first, first + each, dtype=pl.Int64),
            session=pl.repeat(f"s-{number:02}", each),
            channel=(pl.int_range(each) % 256).cast(pl.Int32),
            count=(pl.int_range(each) % 7).cast(pl.Int16),
            rate=(pl.int_range(each) * 0.37 % 11.0).cast(pl.Float64),
        )
        log.append(part.to_arrow().cast(SCHEMA))


def compare(origin: Path, name: str, ours: Write, theirs: Write, rounds: int) -> float:
    """Print and return our share of their time, after checking that both left equal rows."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        left: list[tuple[int, ...]] = []
        for write, kept in zip((ours, theirs), times, strict=True):
            copy = origin.with_name(f"copy{len(left)}")
            shutil.copytree(origin, copy)
            began = time.perf_counter()
            write(str(copy))
            kept.append(time.perf_counter() - began)
            left.append(checksum(str(copy)))
            shutil.rmtree(copy)
        assert left[0] == left[1], f"{name}: {left}"
    mine, rivals = map(statistics.median, times)
    print(f"{name:44} {mine:8.2f} {rivals:10.2f} {mine / rivals:7.2f}", flush=True)
    return mine / rivals


def checksum(uri: str) -> tuple[int, ...]:
    found = pl.scan_delta(uri).select(
        pl.len(),
        pl.sum("time_us"),
        pl.sum("channel").cast(pl.Int64),
        pl.sum("count").cast(pl.Int64),
    )
    row: tuple[int, ...] = found.collect().row(0)
    return row


if __name__ == "__main__":
    sys.exit(main())
