"""Bulk ingest: large bodies over HTTP until their rows are committed in the Delta table.

    python -m bench.bulk [--folder .] [--rows 4000000] [--rounds 2] [--only arrow]

Server and writer are processes of their own with default settings, as `neuralake up` runs them; the
sender is this one, with two connections. Two tables: flights (19 columns) and readings of devices
(4 columns). Rows a second count until the last row is in the table's log; CPU seconds are of each
process, per million rows. The peers take turns with it in the same run: `write_deltalake` of the
same Arrow tables on a kept handle, in this process, without HTTP or queue; and pyarrow's Parquet
alone, to memory: the floor of anything that makes such files.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from bench.flights_lake import FLIGHTS, READINGS, catalog, child_process, flights
from bench.ingest import Client, await_position, await_table
from bench.machine import cpu_s, describe
from deltalake import DeltaTable, write_deltalake

from neuralake.delta import snapshot
from neuralake.records.media_types import ARROW, NDJSON, PARQUET
from neuralake.schema import conform

SENDERS = 2
# Of text a body has at most 16 MiB; what a commit takes is what the peers take.
BODY_ROWS = {ARROW: 100_000, PARQUET: 100_000, NDJSON: 25_000}
COMMIT_ROWS = 500_000


@dataclass
class Run:
    """What one way of storing rows took."""

    rows: int
    bytes: int = 0
    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)

    def line(self, name: str) -> str:
        mib_s = f"{self.bytes / self.seconds / 2**20:>6,.0f} MiB/s" if self.bytes else " " * 12
        cpu = "  ".join(f"{who} {s / self.rows * 1e6:.2f}" for who, s in self.cpu_s.items())
        return f"  {name:<28}{self.rows / self.seconds:>11,.0f} rows/s {mib_s}   {cpu}"


def readings(rows: int) -> pa.Table:
    """What 40 devices with 16 channels measure in turn."""
    random = np.random.default_rng(7)
    numbers = np.arange(rows)
    names = np.array([f"arm-{number:02d}" for number in range(40)])
    return pa.table(
        [
            pa.array(names[numbers // 16 % 40]),
            pa.array(1_767_225_600_000_000 + numbers // 640 * 2000 + random.integers(0, 200, rows)),
            pa.array(numbers % 16, pa.int32()),
            pa.array(np.round(random.normal(0, 40, rows), 3)),
        ],
        names=READINGS.names,
    ).cast(READINGS)


def flown() -> pa.Table:
    """The flights as the table has them."""
    frame = flights().with_columns(
        pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    )
    narrow = [pl.col(name).cast(pl.Int16) for name in ("year", "month", "day")]
    table = frame.with_columns(narrow).to_arrow()
    return conform(table, FLIGHTS, name="flights").combine_chunks()


def bodies(table: pa.Table, media_type: str) -> list[bytes]:
    size = BODY_ROWS[media_type]
    # Whole bodies only: then the number of requests says how many rows there are.
    parts = [table.slice(at, size) for at in range(0, table.num_rows - size + 1, size)]
    return [body(part, media_type) for part in parts]


def body(part: pa.Table, media_type: str) -> bytes:
    if media_type == NDJSON:
        frame = pl.DataFrame(part)
        times = pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        return frame.with_columns(times).write_ndjson().encode()
    sink = pa.BufferOutputStream()
    if media_type == PARQUET:
        pq.write_table(part, sink)
    else:
        with pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part)
    made: bytes = sink.getvalue().to_pybytes()
    return made


@contextmanager
def measured(run: Run, pids: dict[str, int]) -> Iterator[None]:
    before, begin = {name: cpu_s(pid) for name, pid in pids.items()}, time.perf_counter()
    yield
    run.seconds = time.perf_counter() - begin
    run.cpu_s = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}


def ours(folder: Path, name: str, table: pa.Table, media_type: str, rows: int) -> Run:
    """Over HTTP, until the log of the Delta table has the last position."""
    sent = bodies(table, media_type)
    work = [i % len(sent) for i in range(max(1, rows // BODY_ROWS[media_type]))]
    run = Run(len(work) * BODY_ROWS[media_type], sum(len(sent[i]) for i in work))
    lake = catalog(folder)
    uri = lake.uri_of(lake.definition("bench", name))
    with (
        child_process("serve", folder) as (url, server),
        child_process("write", folder) as (_, writer),
    ):
        await_table(uri)
        clients = [Client(url) for _ in range(SENDERS)]
        idle = list(clients)

        def send(index: int) -> None:
            client = idle.pop()
            client.post(f"/v1/bench/{name}", sent[index], media_type)
            idle.append(client)

        pids = {"server": server, "writer": writer, "sender": os.getpid()}
        with measured(run, pids), ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(send, work))
            await_position(lake, uri, f"bench.{name}")
        for client in clients:
            client.close()
    assert snapshot(uri).rows == run.rows
    lake.queue().close()
    return run


def commits(table: pa.Table, rows: int) -> tuple[list[pa.Table], int]:
    """The tables that the peers write: as many rows as one commit of ours has at most."""
    times = -(-COMMIT_ROWS // table.num_rows)
    one = pa.concat_tables([table] * times).slice(0, COMMIT_ROWS)
    return [one] * max(1, rows // COMMIT_ROWS), max(1, rows // COMMIT_ROWS) * COMMIT_ROWS


def delta_peer(folder: Path, table: pa.Table, rows: int) -> Run:
    """`write_deltalake` on a handle that is kept."""
    parts, count = commits(table, rows)
    run = Run(count)
    write_deltalake(folder / "peer", parts[0].slice(0, 0))
    handle = DeltaTable(folder / "peer")
    with measured(run, {"all": os.getpid()}):
        for part in parts:
            write_deltalake(handle, part, mode="append")
    assert snapshot(str(folder / "peer")).rows == count
    return run


def parquet_peer(table: pa.Table, rows: int) -> Run:
    """pyarrow's Parquet alone, to memory."""
    parts, count = commits(table, rows)
    run = Run(count)
    with measured(run, {"all": os.getpid()}):
        for part in parts:
            pq.write_table(part, pa.BufferOutputStream(), compression="zstd")
    return run


def ways(name: str, table: pa.Table, rows: int) -> dict[str, Callable[[Path], Run]]:
    """How rows of a table are stored, ours and the peers' in turns; each takes a folder."""
    return {
        "neuralake, arrow": lambda at: ours(at, name, table, ARROW, rows),
        "write_deltalake": lambda at: delta_peer(at, table, rows),
        "pyarrow parquet, memory": lambda _: parquet_peer(table, rows),
        "neuralake, parquet": lambda at: ours(at, name, table, PARQUET, rows),
        "neuralake, ndjson": lambda at: ours(at, name, table, NDJSON, rows // 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="ways whose name has this")
    options = parser.parse_args()
    print(describe(options.folder))
    print(f"rows/s until committed, {SENDERS} connections; CPU seconds per million rows")
    for name, table in (("flights", flown()), ("readings", readings(500_000))):
        print(f"{name}: {table.num_columns} columns, {table.nbytes / table.num_rows:.0f} bytes/row")
        for _ in range(options.rounds):
            for way, store in ways(name, table, options.rows).items():
                if options.only in way:
                    with tempfile.TemporaryDirectory(dir=options.folder) as below:
                        print(store(Path(below)).line(way), flush=True)


if __name__ == "__main__":
    main()
