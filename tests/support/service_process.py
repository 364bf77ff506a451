"""A real server in a process of its own: started, waited for, and surely stopped.

It is ready when it has answered a real request, not when its port is open. It is killed with all
that it started when its context ends, and also when the process that started it dies.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

__all__ = ["ServiceError", "ServiceProcess"]

LIFELINE = str(Path(__file__).with_name("lifeline_child.py"))
# A Java server on a busy machine; the usual start takes 0.2 to 4 s.
READY_S_MAX = 90.0
_Answer = TypeVar("_Answer")
_PORT = re.compile(r"^port (\d+)$", re.MULTILINE)


class ServiceError(AssertionError):
    """A server did not come up; the message has the end of what it printed."""


class ServiceProcess:
    """A started command whose output goes to `<folder>/<name>.log`."""

    def __init__(
        self, name: str, command: list[str], folder: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        self._name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, LIFELINE, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, name: str, command: list[str], folder: Path, *, env: Mapping[str, str] | None = None
    ) -> Iterator[ServiceProcess]:
        process = cls(name, command, folder, env=env)
        try:
            yield process
        finally:
            process.stop()

    @property
    def pid(self) -> int:
        """Of the process that runs the command, and of its group."""
        return self._process.pid

    def printed_port(self) -> int:
        """The port that the command prints as a line `port N` when it listens."""

        def look() -> int:
            found = _PORT.search(self._log.read_text(errors="replace"))
            if found is None:
                raise ConnectionError("No port was printed.")
            return int(found[1])

        return self.wait_for(look)

    def wait_for(self, ask: Callable[[], _Answer]) -> _Answer:
        """What `ask` returns, once it does; until then it raises, as clients of no server do."""
        end_s = time.monotonic() + READY_S_MAX
        while True:
            if self._process.poll() is not None:
                raise ServiceError(f"{self._name} ended with {self._process.poll()}.{self._tail()}")
            try:
                return ask()
            except Exception as error:
                if time.monotonic() > end_s:
                    raise ServiceError(
                        f"{self._name} did not answer in {READY_S_MAX:.0f} s.{self._tail()}"
                    ) from error
            time.sleep(0.02)  # A server that is not up yet sends no event to wait for.

    def stop(self) -> None:
        """Kill it and all that it started. It serves test data: nothing of it is to be saved."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _tail(self) -> str:
        return "\n" + "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
