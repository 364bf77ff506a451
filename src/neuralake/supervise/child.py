"""One process of the tree: started, listened to, and told to stop.

A child is a new interpreter (never a fork: the Rust libraries' runtimes do not survive one) in a
process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which then
stops the parts in their order. Its standard input is its lifeline, see `lifeline`.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Child", "describe_exit", "restart_delay_s"]

_LINES_KEPT = 20
_DELAY_S_MIN = 0.1
_DELAY_S_MAX = 10.0
_KILLED_DELAY_S_MAX = 1.0


class Child:
    """A running process by name. `on_line` gets each line it writes, from another thread."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        started_s: float,
        on_line: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self.started_s = started_s
        self._on_line = on_line
        self._is_told = False
        self._kept: deque[str] = deque(maxlen=_LINES_KEPT)
        # Told to stop while it starts, it is to stop in order and not to die: SIGTERM waits until
        # its handler is there (`stop_event`). A process has the mask of the thread that made it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
                pass_fds=descriptors,
                text=True,
                errors="replace",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self._listener = threading.Thread(
            target=self._listen, name=f"listen to {name}", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def last_lines(self) -> list[str]:
        """What it wrote last; complete once it has ended."""
        if self._process.poll() is not None:
            self._listener.join(timeout=10.0)
        return list(self._kept)

    def tell_to_stop(self) -> None:
        """Send it SIGTERM, once: a second one would end it without order."""
        if not self._is_told and self._process.poll() is None:
            self._is_told = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self, *, timeout_s: float) -> bool:
        """Tell it to stop and wait; False if it had to be killed after `timeout_s`."""
        self.tell_to_stop()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        finally:
            self._release()
        return True

    def _release(self) -> None:
        self._listener.join(timeout=1.0)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 we asked for a pipe; for mypy
        with self._process.stdout as lines:
            for line in lines:
                self._kept.append(line.rstrip())
                self._on_line(self.name, line.rstrip())


def describe_exit(exit_code: int) -> str:
    """`was killed by SIGKILL` or `ended with exit code 70`."""
    if exit_code < 0:
        try:
            return f"was killed by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"was killed by signal {-exit_code}"
    return f"ended with exit code {exit_code}"


def restart_delay_s(failures: int, exit_code: int = 1) -> float:
    """Seconds to wait before the start after the `failures`-th quick end in a row (from 1).

    Doubles from 0.1 s: a part is back at once, and one that cannot start does not eat the machine.
    At most 10 s; at most 1 s after SIGKILL, which is somebody else's doing and not the part's.
    """
    most_s = _KILLED_DELAY_S_MAX if exit_code == -signal.SIGKILL else _DELAY_S_MAX
    return min(most_s, _DELAY_S_MIN * 2.0 ** min(failures - 1, 16))
