"""Processes that kill themselves with SIGKILL at a chosen step of the store.

Usage: crash_child.py OPERATION URI…. For each URI in turn a process does OPERATION ("create",
"append", "compact", "vacuum", "checkpoint" or "cleanup") there, and dies right before the store's
step number 0 for the first, 1 for the second and so on; half through it if it writes a file. Ends
at the first that comes to the end of its work, and prints how each ended.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from neuralake.clock import ManualClock, SystemClock
from neuralake.delta import (
    TableLog,
    Txn,
    checkpoint,
    cleanup,
    compact_once,
    create_table,
    vacuum,
)
from neuralake.storage import Bytes, LocalStore, Sink

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
TXN = Txn("app", 1000)


class CrashingStore(LocalStore):
    def __init__(self, folder: str, step: int) -> None:
        super().__init__(folder)
        self._left = step

    def _step(self, path: str = "", data: Bytes = b"") -> None:
        if self._left == 0:
            if data:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    @contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        self._step()
        with super().create(name) as sink:
            yield sink
            self._step()

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


def work(operation: str, uri: str, step: int) -> None:
    store = CrashingStore(uri, step)
    if operation == "create":
        create_table(store, SCHEMA, partition_by=["p"])
    elif operation == "append":
        rows = pa.table({"id": [100, 101, 102], "p": ["a", "new/one", "a"]}, SCHEMA)
        TableLog.open(store).append(rows, txn=TXN)
    elif operation == "compact":
        compact_once(store, target_bytes=2**20, files_min=2)
    elif operation == "vacuum":
        days_later = ManualClock(SystemClock().now_s() + 10 * 86_400)
        vacuum(store, retention_hours=24, full=True, clock=days_later)
    elif operation == "checkpoint":
        checkpoint(store)
    elif operation == "cleanup":
        cleanup(store, clock=ManualClock(SystemClock().now_s() + 40 * 86_400))


def main(operation: str, *uris: str) -> None:
    # One process imports, and others are forked off it: a second each is saved. It has no threads
    # yet, and has begun nothing that a fork would break.
    for step, uri in enumerate(uris):
        if (child := os.fork()) == 0:
            try:
                work(operation, uri, step)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, uri)
        if code != -signal.SIGKILL:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
