"""An ingest server in a process of its own, that can be killed. For tests of ingest."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kept_port import kept_port

CHILD = Path(__file__).parent / "ingest_server_child.py"


class Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, folder: Path, child: Path = CHILD) -> None:
        self._folder, self._child = folder, child
        self.url = ""
        self.process = self._start(kept_port())

    def _start(self, port: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(self._child), str(self._folder), str(port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()
        assert self.url
        return process

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.process = self._start(int(self.url.rsplit(":", 1)[1]))

    def _end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def served(folder: Path, child: Path = CHILD) -> Iterator[Server]:
    server = Server(folder, child)
    try:
        yield server
    finally:
        server.kill()
