"""A small lake with every kind of table, and a gateway over it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from neuralake import delta
from neuralake.catalog import Catalog, Database
from neuralake.serve.gateway import Gateway
from neuralake.serve.http import SqlEndpoint
from neuralake.serve.messages import Limits
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import (
    DeltaTable,
    FunctionTable,
    ParquetTable,
    Partition,
    PartitioningScheme,
    Stream,
    table,
)

EVERY_TYPE = pa.schema(
    [
        ("id", pa.int32()),
        ("i8", pa.int8()),
        ("i16", pa.int16()),
        ("i64", pa.int64()),
        ("f32", pa.float32()),
        ("f64", pa.float64()),
        ("dec", pa.decimal128(38, 10)),
        ("text", pa.string()),
        ("raw", pa.binary()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("clock", pa.timestamp("us")),
        ("instant", pa.timestamp("us", tz="UTC")),
        ("items", pa.list_(pa.int64())),
        ("nested", pa.struct([("a", pa.float64()), ("b", pa.list_(pa.string()))])),
        ("place", pa.string()),
        ("on", pa.date32()),
    ]
)

ROWS: list[dict[str, Any]] = [
    {
        "id": 0,
        "i8": -128,
        "i16": 32767,
        "i64": -(2**63),
        "f32": 0.1,
        "f64": 1e300,
        "dec": Decimal("-1234567890123456789012345678.0123456789"),
        "text": 'a "quoted", text\r\nof two lines',
        "raw": b"\x00\xff\x10",
        "flag": True,
        "day": date(1969, 12, 31),
        "clock": datetime(1960, 1, 2, 3, 4, 5, 6),
        "instant": datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        "items": [1, None, 2**60],
        "nested": {"a": float("nan"), "b": ["x", None, ""]},
        "place": "a b/c=ü",
        "on": date(2024, 1, 1),
    },
    {
        "id": 1,
        "i8": 0,
        "i16": 0,
        "i64": 2**53 - 1,
        "f32": float("nan"),
        "f64": float("-inf"),
        "dec": Decimal("0E-10"),
        "text": "",
        "raw": b"",
        "flag": False,
        "day": date(9999, 12, 31),
        "clock": datetime(9999, 12, 31),
        "instant": datetime(1, 1, 1, tzinfo=UTC),
        "items": [],
        "nested": {"a": None, "b": None},
        "place": "ünïcode 🧠",
        "on": date(2024, 1, 2),
    },
    {"id": 2} | {name: None for name in EVERY_TYPE.names if name != "id"},
]

LIMITS = Limits(
    rows_max=1000, timeout_s=100.0, memory_bytes_max=512 * 1024 * 1024, query_bytes_max=64 * 1024
)


@dataclass(frozen=True)
class Lake:
    """`catalog`'s one database `lab`: every, empty, unwritten, hive, folders, globbed, made."""

    catalog: Catalog
    folder: Path

    def uri(self, name: str) -> str:
        return self.catalog.uri_of(self.catalog.definition("lab", name))

    def append(self, name: str, rows: pa.Table) -> None:
        delta.TableLog.open(self.uri(name)).append(rows)


def every_row() -> pa.Table:
    return pa.Table.from_pylist(ROWS, schema=EVERY_TYPE)


def make_lake(folder: Path) -> Lake:
    numbers = pa.schema([("n", pa.int64()), ("part", pa.string())])
    hive = [Partition("year", pl.Int32), Partition("kind", pl.String)]
    definitions = [
        DeltaTable("every", "lab/every", EVERY_TYPE, partition_by=["place", "on"]),
        DeltaTable("empty", "lab/empty", EVERY_TYPE, partition_by=["place"]),
        DeltaTable("unwritten", "lab/unwritten", EVERY_TYPE, stream=Stream()),
        DeltaTable("numbers", "lab/numbers", numbers, partition_by=["part"], stream=Stream()),
        ParquetTable("hive", "raw/hive", {"n": pl.Int64}, partitioning=hive),
        ParquetTable(
            "folders",
            "raw/folders",
            partitioning=hive,
            partitioning_scheme=PartitioningScheme.DIRECTORY,
        ),
        ParquetTable("globbed", "raw/hive/year=2024/*/part-*.parquet"),
        *FUNCTIONS,
    ]
    catalog = Catalog(
        {"lab": Database(definitions)},
        settings=Settings(folder=str(folder), lake=LakeSettings(root="lake")),
    )
    lake = Lake(catalog, folder)
    for name in ("every", "empty", "numbers"):
        definition = catalog.definition("lab", name)
        assert definition.schema is not None
        delta.create_table(lake.uri(name), definition.schema, partition_by=definition.partition_by)
    lake.append("every", every_row())
    for number, (year, kind) in enumerate([(2023, "a"), (2024, "a"), (2024, "b c")]):
        for path in (f"hive/year={year}/kind={kind}", f"folders/{year}/{kind}"):
            target = folder / "lake" / "raw" / path
            target.mkdir(parents=True)
            pq.write_table(
                pa.table({"n": [number * 10, number * 10 + 1]}), target / "part-0.parquet"
            )
    return lake


@table(schema=pa.schema([("a", pa.int64()), ("b", pa.string())]))
def made() -> pl.LazyFrame:
    """Two rows."""
    return pl.LazyFrame({"a": [1, 2], "b": ["x", None]})


@table
def needy(session: str) -> pl.LazyFrame:
    """Needs an argument."""
    return pl.LazyFrame({"session": [session]})


@table
def broken() -> pl.LazyFrame:
    """Fails."""
    raise OSError("the secret password is 1234")


@table
def endless() -> pl.LazyFrame:
    """More rows than SQL takes from a function."""
    return pl.LazyFrame({"n": pl.int_range(0, 3_000_000, eager=True)})


FUNCTIONS: list[FunctionTable[..., Any]] = [made, needy, broken, endless]


def arrow(
    gateway: Gateway, sql: str, *, limit: int | None = None, timeout_s: float | None = None
) -> pa.Table:
    """The rows of `sql`."""
    with gateway.query(sql, "arrow", limit=limit, timeout_s=timeout_s) as query:
        query.open()
        return pa.ipc.open_stream(b"".join(query.parts())).read_all()


@contextmanager
def serving(gateway: Gateway) -> Iterator[str]:
    """The URL of a real server of `/api/sql` on a free port."""
    app = Starlette(routes=[Route("/api/sql", SqlEndpoint(gateway), methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    listener = server.config.bind_socket()
    listener.listen()  # Clients may connect before the server runs.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/sql"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
