"""Processes that are kept running: what ends is started again, with back-off, and why is said.

Each is a `neuralake` command of this installation, in its own process. Knows nothing of what they
do, except that servers share a listening socket, which is theirs before they start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from neuralake.clock import Clock
from neuralake.supervise.child import Child, describe_exit, restart_delay_s

__all__ = ["Family", "how_it_is"]

# A part that ran this long was well: its next end is the first of a new row.
_WELL_AFTER_S = 5.0


class Family:
    """The processes of `commands` (arguments of `neuralake` by name). Use it from one thread.

    Args:
        folder: the working folder of all.
        environment: beside this process's own.
        descriptors: open files that they inherit, by name.
        on_line: gets `(name, line)` of what they write, from other threads.
        tell: gets what is to be said of them.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        folder: Path,
        environment: Mapping[str, str],
        descriptors: Mapping[str, Sequence[int]],
        clock: Clock,
        on_line: Callable[[str, str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._commands = commands
        self._folder, self._environment = folder, environment
        self._descriptors = descriptors
        self._clock, self._on_line, self._tell = clock, on_line, tell
        self._children: dict[str, Child] = {}
        self._due_s: dict[str, float] = {}
        self._failures = dict.fromkeys(commands, 0)
        self._restarts = dict.fromkeys(commands, 0)

    @property
    def restarts(self) -> dict[str, int]:
        """How often each was started again."""
        return dict(self._restarts)

    @property
    def pids(self) -> dict[str, int]:
        """Those that run now."""
        return {name: child.pid for name, child in list(self._children.items())}

    def child(self, name: str) -> Child | None:
        """The process of this name, if it was started and is not yet found to have ended."""
        return self._children.get(name)

    def start(self) -> None:
        """Start all, in order."""
        for name in self._commands:
            self._start(name)

    def check(self) -> bool:
        """Start again what has ended, if its time has come; whether anything changed."""
        now_s = self._clock.monotonic_s()
        ended = [child for child in self._children.values() if child.exit_code is not None]
        for child in ended:
            self._bury(child, now_s)
        due = [name for name, due_s in self._due_s.items() if due_s <= now_s]
        for name in due:
            del self._due_s[name]
            self._restarts[name] += 1
            self._start(name)
        return bool(ended or due)

    def stop(self, names: Iterable[str], *, timeout_s: float) -> None:
        """Tell all of `names` to stop, then wait; whoever takes longer is killed."""
        leaving = [child for name in names if (child := self._children.pop(name, None))]
        for child in leaving:
            child.tell_to_stop()
        deadline_s = self._clock.monotonic_s() + timeout_s
        for child in leaving:
            if not child.stop(timeout_s=max(0.0, deadline_s - self._clock.monotonic_s())):
                self._tell(
                    f"WARNING {child.name} did not stop within {timeout_s:g} s and was killed"
                )

    def _bury(self, child: Child, now_s: float) -> None:
        del self._children[child.name]
        well = now_s - child.started_s >= _WELL_AFTER_S
        self._failures[child.name] = 1 if well else self._failures[child.name] + 1
        delay_s = restart_delay_s(self._failures[child.name], child.exit_code or 0)
        self._due_s[child.name] = now_s + delay_s
        self._tell(
            f"WARNING {child.name} (process {child.pid}) {how_it_is(child)}; starting it again in "
            f"{delay_s:g} s"
        )
        child.stop(timeout_s=0.0)  # It has ended: this closes its pipes.

    def _start(self, name: str) -> None:
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # A crash below Python says where it was, and that line is the reason we give.
            "PYTHONFAULTHANDLER": "1",
            **self._environment,
        }
        # -P: the catalog's folder is put on the path by who loads it, after the standard library.
        self._children[name] = Child(
            name,
            [sys.executable, "-P", "-m", "neuralake", *self._commands[name]],
            folder=self._folder,
            environment=environment,
            descriptors=self._descriptors.get(name, ()),
            started_s=self._clock.monotonic_s(),
            on_line=self._on_line,
        )


def how_it_is(child: Child) -> str:
    """How a process ended, or that it runs, and what it wrote last."""
    code = child.exit_code
    how = describe_exit(code) if code is not None else "runs"
    last = next((line for line in reversed(child.last_lines()) if line.strip()), None)
    return f"{how} ({last.strip()})" if last else how
