"""A project in a folder, a device that sends to it, and its processes. For tests from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from neuralake.settings import Settings, load_settings

TABLES = """\
import neuralake as nl
import pyarrow as pa

events = nl.DeltaTable(
    name="events",
    uri="lab/events",
    schema=pa.schema([("id", pa.int64()), ("text", pa.string())]),
    description="One row per event.",
    docs_columns={"id": "Its number."},
    stream=nl.Stream(),
)
silent = nl.DeltaTable(
    name="silent", uri="lab/silent", schema=pa.schema([("id", pa.int64())]), description="Quiet."
)


@nl.table(data_input="lab.events")
def latest():
    \"\"\"The newest events.\"\"\"
    from lake import catalog

    return catalog.db("lab").table("events").sort("id", descending=True).head(3)
"""
LAKE = """\
import neuralake as nl
import tables

catalog = nl.Catalog({"lab": nl.ModuleDatabase(tables)})
"""
SETTINGS = """\
[lake]
root = "lake"

[server]
port = 0

[compact]
interval_s = 1

[checkpoint]
interval_s = 1
"""


def make_project(folder: Path) -> Settings:
    """Write a project with the stream table `lab.events`; its settings."""
    for name, text in (("tables.py", TABLES), ("lake.py", LAKE), ("neuralake.toml", SETTINGS)):
        (folder / name).write_text(text, encoding="utf-8")
    return load_settings(folder / "neuralake.toml", environment={})


def post(url: str, ids: Iterable[int]) -> dict[str, Any]:
    """Send events with these ids; the answer of the server, which must be 202."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    body = json.dumps([{"id": number, "text": f"event {number}"} for number in ids])
    connection.request(
        "POST", "/v1/lab/events", body=body, headers={"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 202, text
    answer: dict[str, Any] = json.loads(text)
    return answer


def ids_in(settings: Settings) -> list[int]:
    """The ids in the Delta table, in order; none if there is no table."""
    folder = Path(settings.root, "lab", "events")
    if not (folder / "_delta_log").exists():
        return []
    return sorted(pl.scan_delta(str(folder)).select("id").collect()["id"].to_list())


def eventually(claim: Callable[[], bool], *, within_s: float = 90.0) -> bool:
    """Whether `claim` comes true; it fails the test only after far longer than it should take."""
    deadline_s = time.monotonic() + within_s
    never = threading.Event()
    while not claim():
        if time.monotonic() > deadline_s:
            return False
        never.wait(0.02)
    return True


def is_running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def is_stopped(pid: int) -> bool:
    """Whether a SIGSTOP has come to each thread of a process: it is on its way for a moment."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rsplit(")", 1)[1].split()[0] for stat in stats} == {"T"}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


class Command(subprocess.Popen[str]):
    """A process that a failing test does not leave behind, nor wait for."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def start_cli(folder: Path, *arguments: str) -> Command:
    """`neuralake …` in `folder`, its standard error with its standard output."""
    return Command(
        [sys.executable, "-m", "neuralake", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def run_cli(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`neuralake …` in `folder`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "neuralake", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=120,
        **({"stdin": subprocess.DEVNULL} | options if "input" not in options else options),
    )
