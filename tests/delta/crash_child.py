"""A process that kills itself with SIGKILL at a chosen step of the store.

Usage: crash_child.py OPERATION URI STEP. It does OPERATION ("create", "append" or "compact") and
dies right before the store's step number STEP (from 0); half through it if it writes a file.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pyarrow as pa

from neuralake.delta import TableLog, Txn, compact_once, create_table
from neuralake.storage import Bytes, LocalStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
ROWS = pa.table({"id": [100, 101, 102], "p": ["a", "new/one", "a"]}, SCHEMA)
TXN = Txn("app", 1000)


class CrashingStore(LocalStore):
    def __init__(self, folder: str, step: str) -> None:
        super().__init__(folder)
        self._left = int(step)

    def _step(self, path: str = "", data: Bytes = b"") -> None:
        if self._left == 0:
            if data:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def _write_new(self, path: str, data: Bytes) -> None:
        self._step(path, data)
        super()._write_new(path, data)

    def _make_folder(self, path: str) -> None:
        self._step()
        super()._make_folder(path)

    def _link(self, aside: str, path: str) -> None:
        self._step()
        super()._link(aside, path)

    def _unlink(self, path: str) -> None:
        self._step()
        super()._unlink(path)

    def _sync_folder(self, path: str) -> None:
        self._step()
        super()._sync_folder(path)


def main(operation: str, uri: str, step: str) -> None:
    store = CrashingStore(uri, step)
    if operation == "create":
        create_table(
            store,
            SCHEMA,
            partition_by=["p"],
        )
    elif operation == "append":
        TableLog.open(store).append(ROWS, txn=TXN)
    else:
        compact_once(
            store,
            target_bytes=2**20,
            files_min=2,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
