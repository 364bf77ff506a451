"""The panel's numbers come from the log, entry by entry."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from neuralake.clock import SystemClock
from neuralake.delta import TableLog, compact_once, create_table, snapshot
from neuralake.demo.log_watch import Compaction, LogWatch

SCHEMA = pa.schema([("id", pa.int64())])


def rows(first: int) -> pa.Table:
    return pa.table({"id": [first, first + 1]}, schema=SCHEMA)


def test_commits_files_and_compactions_are_counted_as_they_happen(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    watch = LogWatch("lab.events", folder)
    watch.look()
    assert (watch.commits, watch.files_live) == (0, 0)

    create_table(str(folder), SCHEMA)
    log = TableLog.open(str(folder))
    for number in range(6):
        log.append(rows(number))
    watch.look()
    assert (watch.commits, watch.files_written, watch.files_live) == (6, 6, 6)

    compact_once(str(folder), target_bytes=1 << 20, files_min=2, clock=SystemClock())
    watch.look()
    assert (watch.commits, watch.files_written, watch.files_live) == (7, 6, 1)
    assert watch.compactions == [Compaction("lab.events", 6, 1)]
    assert watch.files_live == len(snapshot(str(folder)).files)
