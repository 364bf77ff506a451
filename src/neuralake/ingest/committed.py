"""Wait until the table's log says that a position of the queue is committed.

One watch per table reads the new log entries while somebody waits, and nothing otherwise. Reading
is done in threads, so that no request waits for another one's disk.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from neuralake.catalog import Catalog
from neuralake.delta import TableLog
from neuralake.errors import Unavailable, UnknownName
from neuralake.queue.topic import app_id
from neuralake.storage import LogStore
from neuralake.tables import DeltaTable

__all__ = ["CommitWatch", "Committed", "Watches"]

_log = logging.getLogger(__name__)

# A commit takes a few milliseconds and comes every 100: asking more often finds nothing.
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Committed:
    """What the log said at one moment."""

    version: int | None
    """Newest version of the table; None: the table is not there yet."""
    positions: dict[str, int]
    """By partition: everything up to here is in the table."""


class CommitWatch:
    """Watches one table for commits of one queue. Use it from one event loop."""

    def __init__(self, store: LogStore, queue_id: str) -> None:
        self._store = store
        self._queue_id = queue_id
        self._log: TableLog | None = None
        self._lock = threading.Lock()
        self._waiters: list[tuple[str, int, asyncio.Future[int]]] = []
        self._task: asyncio.Task[None] | None = None

    async def version_with(self, partition: str, position: int, *, timeout_s: float) -> int | None:
        """A version of the table that holds `partition` up to `position`; None on timeout."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((partition, position, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return None
        finally:
            self._waiters = [waiter for waiter in self._waiters if waiter[-1] is not future]

    async def look(self, partitions: Sequence[str]) -> Committed:
        """What the log says now."""
        return await asyncio.to_thread(self.look_now, partitions)

    async def _watch(self) -> None:
        while self._waiters:
            try:
                found = await self.look([*{waiter[0] for waiter in self._waiters}])
            except Unavailable as error:
                # The rows are stored; the waiters' own time limit decides how long to go on.
                _log.warning("cannot read the log of %s: %s", self._store.uri, error)
            except Exception as error:  # noqa: BLE001 whatever it is, the waiters must hear it
                self._fail(error)
                return
            else:
                self._tell(found)
            await asyncio.sleep(_POLL_S)

    def _tell(self, found: Committed) -> None:
        for partition, position, future in self._waiters:
            # Who began to wait during the look was not asked for.
            reached = found.positions.get(partition, 0)
            if position <= reached and found.version is not None and not future.done():
                future.set_result(found.version)

    def _fail(self, error: Exception) -> None:
        for _, _, future in self._waiters:
            if not future.done():
                future.set_exception(error)

    def look_now(self, partitions: Sequence[str]) -> Committed:
        """As `look`, from any thread; it waits for the disk."""
        with self._lock:
            try:
                if self._log is None:
                    self._log = TableLog.open(self._store)
                self._log.refresh()
                positions = {
                    name: self._log.committed(app_id(self._queue_id, name)) or 0
                    for name in partitions
                }
                # After the positions: the answer names a version that surely holds the rows, also
                # where the look-up above had to open the table and found it newer.
                version = self._log.refresh()
            except UnknownName:
                # The writer makes the table when it starts.
                return Committed(version=None, positions=dict.fromkeys(partitions, 0))
            return Committed(version=version, positions=positions)


class Watches:
    """The watch of each stream table of a catalog, one for all who ask."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[str, CommitWatch] = {}

    def of(self, table: DeltaTable) -> CommitWatch:
        """The watch of `table`; it reads nothing yet."""
        uri = self._catalog.uri_of(table)
        if uri not in self._found:
            store, queue = self._catalog.store_of(table), self._catalog.queue_of(table)
            self._found.setdefault(uri, CommitWatch(store, queue.id))
        return self._found[uri]
