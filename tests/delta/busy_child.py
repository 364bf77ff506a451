"""A process that appends to or compacts a table until told to stop by a file.

Usage: busy_child.py append URI NAME COUNT | busy_child.py compact URI STOP_FILE.
The appender repeats every third transaction, as a writer does that was restarted, and prints the
last one. The compactor prints how many files it rewrote and how many conflicts it gave way to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from neuralake.delta import TableLog, Txn, compact_once

SCHEMA = pa.schema([("writer", pa.string()), ("id", pa.int64()), ("p", pa.string())])


def append(uri: str, name: str, count: int) -> None:
    log = TableLog.open(uri)
    for i in range(count):
        batch = pa.table({"writer": [name] * 2, "id": [2 * i, 2 * i + 1], "p": ["a", "b"]}, SCHEMA)
        log.append(batch, txn=Txn(name, i))
        if i % 3 == 0:
            again = TableLog.open(uri).append(batch, txn=Txn(name, i))
            assert again.repeated
    print(log.committed(name))


def compact(uri: str, stop: Path) -> None:
    rewritten = conflicts = 0
    while True:
        is_last = stop.exists()
        done = compact_once(uri, target_bytes=2**20, files_min=2)
        rewritten, conflicts = rewritten + done.files_removed, conflicts + done.conflicts
        if is_last and not done.conflicts:
            break
    print(rewritten, conflicts)


if __name__ == "__main__":
    if sys.argv[1] == "append":
        append(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        compact(sys.argv[2], Path(sys.argv[3]))
