"""A process that kills itself with SIGKILL at a chosen step of a batch write.

Usage: batch_crash_child.py OPERATION URI STEP. It does OPERATION ("overwrite", "delete" or "merge")
and dies right before the store's step number STEP (from 0); half through it if it writes a file.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pyarrow as pa

from neuralake.batch import BatchResult, BatchWriter
from neuralake.filters import Filter
from neuralake.storage import Bytes, LocalStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
ROWS = pa.table({"id": [0, 1, 100], "p": ["b", "b", "b"]}, SCHEMA)


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


def write(table: BatchWriter, operation: str) -> BatchResult:
    """The job: the same in the child that dies and in the parent that repeats it."""
    if operation == "overwrite":
        return table.overwrite(ROWS, Filter("p", "=", "b"), app_id="job", version=1)
    if operation == "delete":
        return table.delete(Filter("id", "<", 3), app_id="job", version=1)
    return table.merge(ROWS, on="id", app_id="job", version=1)


if __name__ == "__main__":
    _, chosen, uri, number = sys.argv
    write(BatchWriter(CrashingStore(uri, number)), chosen)
