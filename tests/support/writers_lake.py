"""A project with several stream tables, which several `neuralake write` share. For tests."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
from lab_project import Command, eventually, is_stopped, start_cli

from neuralake.queue import SqliteQueue
from neuralake.settings import Settings, load_settings

LEASE_S = 1.0
TABLES = """\
import neuralake as nl
import pyarrow as pa

SCHEMA = pa.schema([("id", pa.int64())])
TABLES = [
    nl.DeltaTable(f"t{i}", f"t{i}", SCHEMA, stream=nl.Stream(flush_ms_max=20)) for i in range(%d)
]
catalog = nl.Catalog({"lab": TABLES})
"""
SCHEMA = pa.schema([("id", pa.int64())])


class WritersLake:
    """The tables `lab.t0`, `lab.t1`, … and the queue before them."""

    def __init__(self, folder: Path, *, tables: int) -> None:
        self.folder = folder
        self.topics = [f"lab.t{i}" for i in range(tables)]
        (folder / "lake.py").write_text(TABLES % tables)
        (folder / "neuralake.toml").write_text(f"[writer]\nlease_s = {LEASE_S}\n")
        self.settings: Settings = load_settings(folder / "neuralake.toml", environment={})
        self.queue = SqliteQueue(self.settings.queue_path)
        self._sent = dict.fromkeys(self.topics, 0)
        self._rows_of: dict[Path, list[int]] = {}

    def send(self, topic: str, rows: int = 1) -> None:
        """Append the next `rows` rows of a topic, numbered from 0 on."""
        first = self._sent[topic]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA) as stream:
            stream.write_table(pa.table({"id": range(first, first + rows)}, schema=SCHEMA))
        self.queue.append(topic, bytes(sink.getvalue()), rows)
        self._sent[topic] += rows

    def sent(self, topic: str) -> int:
        return self._sent[topic]

    @contextmanager
    def writing(self) -> Iterator[Command]:
        """A writer process; killed at the end, if it is still there."""
        with start_cli(self.folder, "write") as writer:
            try:
                yield writer
            finally:
                writer.kill()
                writer.communicate()

    def pause(self, pid: int) -> None:
        """SIGSTOP a writer while nobody writes to the queue's file.

        Who is stopped in the middle of that has SQLite's lock, and nobody else goes on.
        """
        path = self.settings.queue_path
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            os.kill(pid, signal.SIGSTOP)
            assert eventually(lambda: is_stopped(pid))
            connection.execute("ROLLBACK")

    def holder(self, topic: str) -> int:
        """The process that holds the lease of `topic`; 0 if none does."""
        with closing(sqlite3.connect(self.settings.queue_path)) as connection:
            try:
                found = connection.execute(
                    "SELECT holder FROM leases JOIN writers USING (holder) WHERE topic = ?",
                    (topic,),
                ).fetchone()
            except sqlite3.OperationalError:
                return 0  # No writer has come yet.
        return int(found[0].split("-")[0]) if found else 0

    def committed(self, topic: str) -> list[int]:
        """The rows of a table in the order of its commits; nothing compacts it here."""
        table = Path(self.settings.root, topic.removeprefix("lab."))
        ids: list[int] = []
        for entry in sorted((table / "_delta_log").glob("*.json")):
            # Asked again and again; what is committed stays as it is.
            if entry not in self._rows_of:
                self._rows_of[entry] = list(_rows(table, entry))
            ids += self._rows_of[entry]
        return ids


def _rows(table: Path, entry: Path) -> Iterator[int]:
    for action in map(json.loads, entry.read_text().splitlines()):
        if "add" in action:
            yield from pl.read_parquet(table / action["add"]["path"])["id"].to_list()
