"""The whole platform in threads of one process: for notebooks, tests and small programs.

It does what `neuralake up` does, with the same promises for acknowledged rows; it ends with the
process, and a part that fails is not started again. Leaving the block stops in the order of the
data, so that everything acknowledged is in its table.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack
from types import TracebackType

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention
from neuralake.settings import check_own_queue
from neuralake.supervise.lock import LakeLock
from neuralake.supervise.parts import PARTS, run_part
from neuralake.supervise.state import UpState, remove_state, write_state

__all__ = ["Platform"]

_log = logging.getLogger(__name__)


class Platform:
    """`with Platform(catalog) as platform:` runs server, writer, compaction and vacuum.

    In a notebook, where no block spans cells: `platform = Platform(catalog).start()`, and later
    `platform.stop()`.

    Args:
        port: of the server; 0 picks a free one, None takes the catalog's setting.

    Raises:
        UsageError: another platform runs on this lake, its queue is another machine's, or the port
            is taken.
        NeedsAttention: on leaving, if a part failed; the first failure is its cause.
    """

    def __init__(
        self, catalog: Catalog, *, port: int | None = 0, clock: Clock | None = None
    ) -> None:
        self.catalog = catalog
        self._clock = clock or SystemClock()
        self.url = ""
        """Where the server listens, once it is started."""
        self._port = port
        self._started = threading.Event()
        self._failures: list[tuple[str, BaseException]] = []
        self._exits = ExitStack()

    def start(self) -> Platform:
        """Start the parts; returns, itself, when the server answers."""
        check_own_queue(self.catalog.settings)
        folder = self.catalog.settings.state_folder
        with ExitStack() as undo:
            undo.enter_context(LakeLock(folder))
            undo.callback(remove_state, folder)
            self.url = ""
            self._failures.clear()
            self._started.clear()
            # Left in the opposite order: the server first.
            for name in reversed(PARTS):
                thread, stop = self._start(name)
                undo.callback(thread.join)
                undo.callback(stop.set)
            self._started.wait()
            if not self.url:
                raise self._failures[0][1]
            write_state(folder, self._state())
            self._exits = undo.pop_all()
        return self

    def stop(self) -> None:
        """Stop the parts in the order of the data; stopping again does nothing."""
        self._exits.close()
        if self._failures:
            name, failure = self._failures[0]
            raise NeedsAttention(f"The {name} part failed: {failure}", part=name) from failure

    def __enter__(self) -> Platform:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:  # The block's own error says more than what it may have led to.
            self._exits.close()

    def _state(self) -> UpState:
        return UpState(
            url=self.url,
            pid=os.getpid(),
            started_s=self._clock.now_s(),
            processes={},
            restarts={},
        )

    def _start(self, name: str) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(name, stop), name=name, daemon=True)
        thread.start()
        return thread, stop

    def _run(self, name: str, stop: threading.Event) -> None:
        try:
            run_part(name, self.catalog, stop=stop, port=self._port, on_started=self._on_started)
        except BaseException as error:  # noqa: BLE001 the edge of a thread; raised on leaving
            _log.error("The %s part failed: %s", name, error)
            self._failures.append((name, error))
        finally:
            if name == "serve":
                self._started.set()

    def _on_started(self, url: str) -> None:
        self.url = url
        self._started.set()
