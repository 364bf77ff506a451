"""A project whose lake is in a bucket: definitions, settings, and its commands as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from aws_account import AwsAccount
from lab_project import LAKE, Command
from typer.testing import CliRunner

from neuralake.catalog import Catalog
from neuralake.cli.app import app
from neuralake.settings import Settings, load_settings
from neuralake.storage import LogStore
from neuralake.tables import DeltaTable, ParquetTable, Partition, PartitioningScheme, Stream

__all__ = ["SCHEMA", "StoreLake", "payload_of", "rows_of"]

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string()), ("x", pa.float64())])
TABLES = """\
import neuralake as nl
import pyarrow as pa

events = nl.DeltaTable(
    name="events",
    uri="lab/events",
    schema=pa.schema([("id", pa.int64()), ("site", pa.string()), ("x", pa.float64())]),
    partition_by=["site"],
    description="One row per event.",
    stream=nl.Stream(flush_ms_max=50),
)
"""


@dataclass(frozen=True, slots=True)
class StoreLake:
    """One bucket and a project folder; the lake's root is `s3://bucket/lake`."""

    account: AwsAccount
    folder: Path
    bucket: str
    coordination: str
    lock_table: str = "delta_log"

    @classmethod
    def make(
        cls, account: AwsAccount, folder: Path, coordination: str, *, lock_table: str | None = None
    ) -> StoreLake:
        """Write the project; a lock table is made if it is needed and none is given."""
        if lock_table is None:
            is_needed = coordination == "dynamodb"
            lock_table = account.make_lock_table() if is_needed else "delta_log"
        lake = cls(account, folder, account.make_bucket(), coordination, lock_table)
        (folder / "tables.py").write_text(TABLES, encoding="utf-8")
        (folder / "lake.py").write_text(LAKE, encoding="utf-8")
        lake.write_settings()
        return lake

    def write_settings(self, coordination: str | None = None, more: str = "") -> None:
        (self.folder / "neuralake.toml").write_text(
            f'[lake]\nroot = "s3://{self.bucket}/lake"\n[server]\nport = 0\n'
            f"[compact]\ninterval_s = 1\nfiles_min = 2\n[checkpoint]\ncommits = 5\ninterval_s = 1\n"
            f'[storage.lab]\nuri = "s3://{self.bucket}/"\n'
            f'coordination = "{coordination or self.coordination}"\n'
            f'endpoint = "{self.account.s3_endpoint}"\nregion = "us-east-1"\n'
            f'lock_table = "{self.lock_table}"\n'
            f'lock_endpoint = "{self.account.dynamodb_endpoint}"\n{more}',
            encoding="utf-8",
        )

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder / "neuralake.toml", environment={})

    def catalog(self) -> Catalog:
        """The same tables in this process, and one of Parquet files beside them."""
        events = DeltaTable(
            name="events",
            uri="lab/events",
            schema=SCHEMA,
            partition_by=["site"],
            description="One row per event.",
            stream=Stream(flush_ms_max=50),
        )
        raw = ParquetTable(
            name="raw",
            uri="raw",
            partitioning=[Partition("day", pa.int32())],
            partitioning_scheme=PartitioningScheme.HIVE,
        )
        return Catalog({"lab": [events, raw]}, self.settings)

    def store(self) -> LogStore:
        return self.catalog().store_at(f"s3://{self.bucket}/lake/lab/events")

    @property
    def environment(self) -> dict[str, str]:
        """Of a process: the two secrets in variables, and nothing else of the account."""
        return {
            **{name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": self.account.access_key,
            "AWS_SECRET_ACCESS_KEY": self.account.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_COLOR": "1",
        }

    def start(self, *arguments: str) -> Command:
        """`neuralake …` in the project's folder."""
        return Command(
            [sys.executable, "-m", "neuralake", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`neuralake …` to its end, in this process; `more` are variables of its environment."""
        settings = str(self.folder / "neuralake.toml")
        found = CliRunner().invoke(
            app, ["--settings", settings, *arguments], env={"NO_COLOR": "1", **more}
        )
        return subprocess.CompletedProcess(
            ["neuralake", *arguments], found.exit_code, found.stdout, found.stderr
        )


def rows_of(*ids: int) -> list[dict[str, Any]]:
    return [{"id": number, "site": f"s {number % 2}/ü", "x": float(number)} for number in ids]


def payload_of(rows: list[dict[str, Any]]) -> bytes:
    """Rows as an envelope of the queue has them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return bytes(sink.getvalue())
