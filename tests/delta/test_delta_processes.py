"""Several processes append to and compact one table at once: nothing is lost, nothing doubled."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa

from neuralake.delta import create_table, snapshot

CHILD = str(Path(__file__).with_name("busy_child.py"))
# As in busy_child.py.
SCHEMA = pa.schema([("writer", pa.string()), ("id", pa.int64()), ("p", pa.string())])
APPENDS = 60


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, CHILD, *arguments], stdout=subprocess.PIPE, text=True)


def test_two_writers_and_two_compactors_lose_and_double_nothing(tmp_path: Path) -> None:
    uri, stop = str(tmp_path / "table"), tmp_path / "stop"
    create_table(uri, SCHEMA, partition_by=["p"])

    compactors = [start("compact", uri, str(stop)) for _ in range(2)]
    writers = {name: start("append", uri, name, str(APPENDS)) for name in ("one", "two")}
    for writer in writers.values():
        assert writer.communicate()[0].split() == [str(APPENDS - 1)]
    stop.touch()
    rewritten = sum(int(process.communicate()[0].split()[0]) for process in compactors)

    assert {process.returncode for process in [*compactors, *writers.values()]} == {0}
    assert rewritten > 0
    rows = pl.scan_delta(uri).collect()
    found = Counter(rows.select("writer", "id").rows())
    assert found == Counter((name, i) for name in writers for i in range(2 * APPENDS))
    assert all(snapshot(uri).txn(name) == APPENDS - 1 for name in writers)
    for (_, _), part in rows.group_by("writer", "p", maintain_order=True):
        assert len(part) == APPENDS
    assert len(snapshot(uri).files) == 2
