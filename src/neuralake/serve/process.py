"""The gateway's hold on one query process: start it, talk to it, end it.

A process is asked for one answer at a time. `kill` may come from any thread at any time and always
works, whatever the engine is doing; whoever reads then sees the pipe end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from neuralake.serve.messages import Answer, Order, Ready, Start, receive, send

__all__ = ["QueryProcess", "remove_leftovers"]

_PREFIX = "neuralake-sql-"
# The engine's allocators reserve gigabytes of address space by default, which would be counted as
# memory by the limit that the process sets on itself; small steps keep that limit meaningful.
_ALLOCATORS = {"MIMALLOC_ARENA_RESERVE": "65536", "MALLOC_ARENA_MAX": "2", "RUST_BACKTRACE": "0"}


class QueryProcess:
    """One process of `neuralake.serve.worker`, with a folder of its own for what it spills."""

    def __init__(self, start: Start) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._process = subprocess.Popen(
            # -P: the working folder is no place to import from.
            [sys.executable, "-P", "-m", "neuralake.serve.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=os.environ | _ALLOCATORS | {"TMPDIR": str(self.folder)},
            # Ctrl-C in a terminal goes to the whole group; when queries end is for us to say.
            start_new_session=True,
        )
        self._inbox = cast("BinaryIO", self._process.stdin)
        self._outbox = cast("BinaryIO", self._process.stdout)
        self._is_ready = False
        self._base_bytes: int | None = None
        with suppress(OSError):  # It died at once; `settle` tells.
            send(self._inbox, start)

    @property
    def id(self) -> int:
        return self._process.pid

    def settle(self) -> bool:
        """Wait until it takes a query; False if it ended instead."""
        while not self._is_ready:
            message = receive(self._outbox)
            if message is None:
                return False
            if isinstance(message, Ready):
                self._is_ready = True
                self._base_bytes = self._base_bytes or message.base_bytes
        return self._process.poll() is None

    def send(self, order: Order) -> None:
        """Raises OSError if it is gone."""
        self._is_ready = False
        send(self._inbox, order)

    def receive(self) -> Answer | None:
        """The next message; None if it is gone."""
        return cast("Answer | None", receive(self._outbox))

    def memory_bytes(self) -> int:
        """What it holds above what it held before its first query; 0 where that is not known."""
        if sys.platform != "linux":
            return 0
        try:
            resident = Path(f"/proc/{self.id}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0  # It just ended.
        held = int(resident) * os.sysconf("SC_PAGE_SIZE")
        return held - self._base_bytes if self._base_bytes is not None else 0

    def kill(self) -> None:
        """End it now; returns at once."""
        self._process.kill()

    def remove(self) -> int:
        """End it if need be, and take away all traces; its exit code, negative for a signal."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._inbox, self._outbox):
            with suppress(OSError):  # What was buffered for it has nowhere to go.
                pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def remove_leftovers() -> None:
    """Delete the folders of processes whose gateway was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
