"""kill -9 of client and server at seeded moments: each row is in the table once, in order."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import client_child
import polars as pl
import pytest
from ingest_lake import lake, stored
from ingest_server import Server, served

from neuralake.ingest import Client
from neuralake.settings import QueueSettings
from neuralake.writer import run_writer

CHILD = Path(client_child.__file__)
TABLE = "lab.spikes"


@contextmanager
def writer(folder: Path) -> Iterator[None]:
    """Commits what is sent, until the end, and then the rest; the queue keeps it for the test."""
    stop, catalog = threading.Event(), lake(folder, queue=QueueSettings(grace_s=3600))
    thread = threading.Thread(target=run_writer, args=[catalog], kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def queued(folder: Path) -> dict[str, list[int]]:
    """The channels of each session, in the order of the queue."""
    catalog = lake(folder)
    found: dict[str, list[int]] = {}
    for row in stored(catalog.queue(), TABLE):
        found.setdefault(row["session"], []).append(row["channel"])
    catalog.queue().close()
    return found


def committed(folder: Path) -> dict[str, list[int]]:
    frame = pl.scan_delta(str(folder / "lake/lab/spikes")).select("session", "channel").collect()
    found: dict[str, list[int]] = {}
    for session, channel in frame.rows():
        found.setdefault(session, []).append(channel)
    return {session: sorted(channels) for session, channels in found.items()}


def start(url: str, spool: Path, session: str, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(CHILD), url, str(spool), session, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def killed_after(child: subprocess.Popen[str], lines: int) -> int:
    """How many rows were spooled for certain."""
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    told += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    return sum(line.endswith("\n") for line in told)


def kill_and_restart(server: Server, chance: random.Random, pause: threading.Event) -> None:
    pause.wait(chance.uniform(0.0, 0.2))  # The moment of death, not a wait for something.
    server.kill()
    pause.wait(chance.uniform(0.0, 0.2))
    server.restart()


@pytest.mark.parametrize("seed", range(2))
def test_kills_of_client_and_server_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """Each life of the client is killed; the last one only delivers what the others left."""
    chance, pause, spool = random.Random(seed), threading.Event(), tmp_path / "spool"
    spooled: dict[str, int] = {}
    with served(tmp_path) as server, writer(tmp_path):
        for life in range(6):
            child = start(server.url, spool, f"life {life}", 30_000)
            killer = threading.Thread(target=kill_and_restart, args=[server, chance, pause])
            if life % 2:
                killer.start()
            spooled[f"life {life}"] = killed_after(child, chance.randrange(1, 150))
            if life % 2:
                killer.join()
        last = start(server.url, spool, "last", 40)
        told, _ = last.communicate(timeout=90)
    found = queued(tmp_path)

    assert told.endswith("39\nclosed\n")
    assert found["last"] == list(range(40))
    for session, count in spooled.items():
        rows = found.get(session, [])
        assert rows == list(range(len(rows))), "in order, without a gap, each once"
        assert len(rows) in (count, count + 1), "what send returned for, and perhaps one more"
    assert committed(tmp_path) == found


def test_a_server_that_is_killed_in_traffic_gets_each_row_of_a_client_in_memory_once(
    tmp_path: Path,
) -> None:
    chance, pause = random.Random(7), threading.Event()
    with served(tmp_path) as server, writer(tmp_path):
        rows: list[dict[str, Any]] = [{"session": "s", "channel": n} for n in range(3000)]
        with Client(server.url, batch_rows_max=10, bytes_max=20_000) as client:

            def send() -> None:
                for row in rows:
                    client.send(TABLE, row)

            sender = threading.Thread(target=send)
            sender.start()
            for _ in range(4):
                kill_and_restart(server, chance, pause)
            sender.join()

    assert queued(tmp_path) == {"s": list(range(3000))}
    assert committed(tmp_path) == {"s": list(range(3000))}
