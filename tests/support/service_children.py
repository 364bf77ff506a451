"""Processes of a test beside one table: ours and rivals; none is left when the test ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from service_builds import deltalake_old
from service_table import ServiceTable

__all__ = ["Child", "acks", "compactor", "racer", "rival", "writer"]

HERE = Path(__file__).parent


class Child:
    """A started process; use it as a context. It prints lines, and first of all `ready`."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._err = folder / f"{len(list(folder.glob('*.err')))}.err"
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env={**os.environ, "PYTHONPATH": path, **environment},
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def is_killed_after(self, delay_s: float) -> bool:
        """SIGKILL it in `delay_s` unless it ends by itself before; that must be a success."""
        try:
            self.process.wait(delay_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return True
        self.end()
        return False

    def end(self) -> list[str]:
        """Wait for its end, which must be a success, and return the lines that it printed."""
        lines = self.printed()
        code = self.process.wait()
        assert code == 0, f"A child ended with {code}:\n{self.errors()}"
        return lines

    def printed(self) -> list[str]:
        """What it printed after `ready`, when it has ended or was killed."""
        assert self.process.stdout is not None
        return [line for line in self.process.stdout.read().splitlines() if line != "ready"]

    def errors(self) -> str:
        return self._err.read_text()[-4000:]

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        assert answer, f"A child ended:\n{self.errors()}"
        return answer


def _ours(script: str, table: ServiceTable, *rest: str) -> list[str]:
    return [sys.executable, str(HERE / script), table.arguments(), *rest]


def writer(table: ServiceTable, name: str, count: int, folder: Path, *, flush_ms: int = 0) -> Child:
    """Appends as NAME until it has `count` transactions; see `acks` and the script."""
    rest = (name, str(count), str(_acks(name, folder)), str(flush_ms))
    command = _ours("service_writer_child.py", table, *rest)
    return Child(command, folder, _keys(table))


def acks(name: str, folder: Path) -> list[tuple[int, list[int]]]:
    """Of each process that appended as NAME: where it began, and what was acknowledged to it."""
    runs: list[tuple[int, list[int]]] = []
    path = _acks(name, folder)
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("from "):
            runs.append((int(line.removeprefix("from ")), []))
        else:
            runs[-1][1].append(int(line))
    return runs


def _acks(name: str, folder: Path) -> Path:
    return folder / f"{name}.acks"


def compactor(table: ServiceTable, stop: Path, folder: Path) -> Child:
    """Compacts until the file `stop` is there."""
    return Child(_ours("service_compactor_child.py", table, str(stop)), folder, _keys(table))


def racer(table: ServiceTable, name: str, folder: Path) -> Child:
    """Tries what it is asked; see the script."""
    return Child(_ours("service_race_child.py", table, name), folder, _keys(table))


def rival(table: ServiceTable, name: str, count: int, folder: Path, *, first: int = 0) -> Child:
    """delta-rs appending `count` rows as NAME, the first with the id `first`.

    The newest release does conditional PUT and nothing else; 1.5.0 is the last that locks well.
    """
    python = str(deltalake_old()) if table.coordination == "dynamodb" else sys.executable
    command = [python, str(HERE / "rival_child.py"), table.uri, name, str(first), str(count)]
    return Child(command, folder, table.rival_environment())


def _keys(table: ServiceTable) -> dict[str, str]:
    environment = table.account.environment()
    return {name: environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
