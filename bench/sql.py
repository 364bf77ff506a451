"""SQL over HTTP on 10M rows in 40 partitions, beside DataFusion called directly in one process.

    python -m bench.sql [--rows 10_000_000] [--rounds 15] [--folder .bench/sql]

Asked in turns (A B C A B C): ours through `POST /api/sql` (another process plans and runs it, JSON
comes back over a socket); DataFusion over deltalake's own table provider; DataFusion over
deltalake's Arrow dataset. Each opens the table anew, so each sees the newest version, and their
answers are compared. Exit code 1 if the point query through HTTP is slower than both.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pyarrow as pa
import uvicorn
from bench.machine import describe
from datafusion import SessionConfig, SessionContext
from datafusion.catalog import Table
from deltalake import DeltaTable as DeltaRs
from starlette.applications import Starlette

from neuralake.catalog import Catalog
from neuralake.delta import TableLog, create_table
from neuralake.serve.http import routes
from neuralake.settings import Settings
from neuralake.tables import DeltaTable

PARTITIONS = 40
SCHEMA = pa.schema(
    [
        ("session", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int32()),
        ("count", pa.int16()),
        ("rate", pa.float64()),
    ]
)
SPIKES = DeltaTable("spikes", "spikes", SCHEMA, partition_by=["session"])
QUERIES = {
    "point: one session, one time": "SELECT channel, count FROM spikes WHERE session = 's-07' "
    "AND time = TIMESTAMP '1970-01-01T00:00:20Z'",
    "aggregate of one session": "SELECT count(*), sum(count) FROM spikes WHERE session = 's-07'",
    "aggregate of all rows": "SELECT count(*), sum(count) FROM spikes",
    "256 groups of all rows": "SELECT channel, sum(count) FROM spikes GROUP BY channel",
}


def main() -> int:
    """Run the bench; the exit code says whether the point query holds its promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path(".bench/sql"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    catalog = Catalog({"neural": [SPIKES]}, Settings(folder=str(arguments.folder)))
    uri = catalog.uri_of(SPIKES)
    write(uri, arguments.rows)
    print(describe(arguments.folder))
    print(f"{arguments.rows:,} rows in {PARTITIONS} partitions; median (p90) ms")
    print(f"{'query':32} {'HTTP, ours':>16} {'table provider':>16} {'Arrow dataset':>16}")
    with serving(catalog) as url, httpx.Client(timeout=60) as client:
        ways: list[Callable[[str], list[tuple[object, ...]]]] = [
            lambda sql: over_http(client, url, sql),
            lambda sql: directly(Table(DeltaRs(uri)), sql),
            lambda sql: directly(Table(DeltaRs(uri).to_pyarrow_dataset()), sql),
        ]
        medians = {
            name: compare(name, sql, ways, arguments.rounds) for name, sql in QUERIES.items()
        }
    shutil.rmtree(arguments.folder, ignore_errors=True)
    ours, *others = medians["point: one session, one time"]
    return 0 if ours <= max(others) else 1


def write(uri: str, rows: int) -> None:
    """One commit per session, one row per 20 ms and session."""
    create_table(uri, SCHEMA, partition_by=["session"])
    log = TableLog.open(uri)
    each = pl.int_range(0, rows // PARTITIONS, eager=True).alias("i")
    for number in range(PARTITIONS):
        frame = pl.DataFrame(each).select(
            session=pl.lit(f"s-{number:02d}"),
            time=(pl.col("i") * 20_000).cast(pl.Datetime("us", "UTC")),
            channel=(pl.col("i").hash(number) % 256).cast(pl.Int32),
            count=(pl.col("i").hash(number + 100) % 20).cast(pl.Int16),
            rate=(pl.col("i").hash(number + 200) % 1_000_000) / 1000,
        )
        log.append(frame.to_arrow().cast(SCHEMA))


@contextmanager
def serving(catalog: Catalog) -> Iterator[str]:
    config = uvicorn.Config(Starlette(routes=routes(catalog)), port=0, log_level="error")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/sql"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def over_http(client: httpx.Client, url: str, sql: str) -> list[tuple[object, ...]]:
    answer = client.post(url, json={"sql": sql})
    answer.raise_for_status()
    return [tuple(row) for row in answer.json()["rows"]]


def directly(table: Table, sql: str) -> list[tuple[object, ...]]:
    context = SessionContext(SessionConfig().with_target_partitions(2))
    context.register_table("spikes", table)
    rows = context.sql(sql).to_arrow_table()
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def compare(
    name: str,
    sql: str,
    ways: list[Callable[[str], list[tuple[object, ...]]]],
    rounds: int,
) -> list[float]:
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(rounds + 1):
        answers = []
        for way, kept in zip(ways, times, strict=True):
            began = time.perf_counter()
            answers.append(sorted(map(str, way(sql))))
            if turn:  # The first turn warms all up, and starts our process.
                kept.append((time.perf_counter() - began) * 1000)
        assert answers[0] == answers[1] == answers[2]
    medians = [statistics.median(kept) for kept in times]
    shown = (
        f"{median:8.1f} ({statistics.quantiles(kept, n=10)[-1]:5.0f})"
        for median, kept in zip(medians, times, strict=True)
    )
    print(f"{name:32} " + " ".join(f"{text:>16}" for text in shown), flush=True)
    return medians


if __name__ == "__main__":
    sys.exit(main())
