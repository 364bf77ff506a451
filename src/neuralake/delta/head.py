"""What a handle knows of the newest end of a table's log, kept up to date entry by entry.

It holds the version, the schema, the transactions that were asked for and the time of the newest
file, so that a commit reads nothing that it has read before. It notices when the log that it knows
is gone or is another one.
"""

from __future__ import annotations

from collections.abc import Callable

from deltalake import DeltaTable

from neuralake.clock import Clock
from neuralake.delta.log import Entry, entries_after, entry_name, has_log
from neuralake.delta.protocol import TableState
from neuralake.delta.snapshot import newest_ms, open_delta, state_of
from neuralake.errors import CommitConflict, NeedsAttention
from neuralake.storage import LogStore

__all__ = ["Head"]

# Log entries are cleaned up after days at the earliest; a handle that slept for an hour does not
# trust that the entry after its own is the newest, and opens the table anew.
_STALE_S = 3600.0


class Head:
    """The newest version that a handle has seen; see the module. For one thread."""

    def __init__(
        self, store: LogStore, table: DeltaTable, *, clock: Clock, state: TableState | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self.version = 0
        self.state = state or state_of(table)
        self.newest_ms = 0
        """Time of the newest live file, Unix milliseconds."""
        # delta-rs's snapshot at `version`, to look up transactions in; dropped at the first
        # change, since it holds every file of the table in memory.
        self._base: DeltaTable | None = None
        self._adopt(table, self.state)

    def refresh(self) -> int:
        """Read the entries that are new, and return the version; what it tells is durable.

        A table that took the place of the one that was opened is read from its beginning.

        Raises:
            UnknownName: the table is gone.
        """
        if self.is_stale() or self._is_replaced():
            table = open_delta(self._store)
            self._adopt(table, state_of(table))
            self._store.settle()
        self.catch_up(None)
        return self.version

    def committed(self, app_id: str) -> int | None:
        """The highest transaction version of `app_id`, as of `version` or newer; None: none."""
        if app_id not in self._txns:
            # Once per application and handle; the commit path keeps it current from then on.
            self._txns[app_id] = self._look_up_txn(app_id)
        return self._txns[app_id]

    def note(self, app_id: str, version: int) -> None:
        """Remember that `app_id` has committed `version`."""
        # Only applications that were asked about: a table of many writers stays small in memory.
        if app_id in self._txns:
            self._txns[app_id] = max(version, self._txns[app_id] or 0)

    def catch_up(
        self, commit_id: str | None, on_entry: Callable[[Entry], None] = lambda _entry: None
    ) -> int | None:
        """Read the new entries; the version of the one that `commit_id` made, if it is there."""
        ours = None
        before = self.version
        for entry in entries_after(self._store, self.version):
            self._apply(entry)
            if commit_id is not None and entry.is_from(commit_id):
                ours = entry.version
                break
            on_entry(entry)
        if self.version > before:
            # Another process may have died between making an entry visible and making it durable.
            # We are about to rely on it, and to say so.
            self._store.settle()
            self._base = None
            self._mark_place()
        self._touch()
        return ours

    def advance(self, version: int, *, now_ms: int) -> None:
        """Take over our own commit of `version`."""
        self.version, self.newest_ms, self._base = version, now_ms, None
        self._mark_place()
        self._touch()

    def is_stale(self) -> bool:
        """Whether it was not looked at for so long that it must not be relied on."""
        # Both clocks: the monotonic one stands still while a laptop sleeps.
        now_s, monotonic_s = self._clock.now_s(), self._clock.monotonic_s()
        return max(now_s - self._seen_s[0], monotonic_s - self._seen_s[1]) > _STALE_S

    def check_place(self) -> None:
        """Refuse to commit on top of what is not the log that this handle has read.

        Raises:
            NeedsAttention: the table was deleted.
            CommitConflict: another table took its place.
        """
        if not self._is_replaced():
            return
        what = f"The table at {self._store.uri} was deleted or replaced while it was open"
        if not has_log(self._store):
            raise NeedsAttention(f"{what}: there is no log any more.", version=self.version)
        raise CommitConflict(
            f"{what}: entry {self.version} is not the one that was read. Read again.",
            version=self.version,
        )

    def _look_up_txn(self, app_id: str) -> int | None:
        # delta-rs reads the log once more for this, so the entries of an old snapshot must exist.
        if self._base is None or self.is_stale():
            self._base = open_delta(self._store)
            self._store.settle()
        found: int | None = self._base.transaction_version(app_id)
        return found

    def _apply(self, entry: Entry) -> None:
        protocol, metadata = self.state.protocol, self.state.metadata
        for line in entry.lines:
            protocol = line.protocol or protocol
            metadata = line.meta_data or metadata
            if line.txn is not None:
                self.note(line.txn.app_id, line.txn.version)
            if line.add is not None:
                self.newest_ms = max(self.newest_ms, line.add.modification_time)
        if protocol is not self.state.protocol or metadata is not self.state.metadata:
            self.state = TableState.of(protocol, metadata)
        self.version = entry.version

    def _adopt(self, table: DeltaTable, state: TableState) -> None:
        """Take version, schema and transactions from delta-rs's snapshot."""
        self._base = table
        self._txns: dict[str, int | None] = {}
        self.state = state
        self.version = table.version()
        # The next commit's files must be newer than every live one, also if the clock went back:
        # their times are the order of rows within a partition.
        self.newest_ms = max(self.newest_ms, newest_ms(table))
        self._mark_place()
        self._touch()

    def _mark_place(self) -> None:
        # None where the entry was cleaned up and only its checkpoint is left.
        self._stamp = self._store.stamp(entry_name(self.version))

    def _is_replaced(self) -> bool:
        """Whether the newest entry that we know is gone, or is another one."""
        stamp = self._stamp
        return stamp is not None and self._store.stamp(entry_name(self.version)) != stamp

    def _touch(self) -> None:
        self._seen_s = (self._clock.now_s(), self._clock.monotonic_s())
