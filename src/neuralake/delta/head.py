"""What a handle knows of the newest end of a table's log, kept up to date entry by entry.

It holds the version, the schema, the transactions, and the time of the newest file, so that a
commit reads nothing that it has read before. It notices when the log that it knows is gone, was
cleaned up past it, or is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuralake.clock import Clock
from neuralake.delta.actions import Action, MetaData
from neuralake.delta.coordination import check_coordination
from neuralake.delta.log import Entry, MissingEntry, entries_after, entry_name, has_log
from neuralake.delta.protocol import TableState
from neuralake.delta.replay import LogState, replay
from neuralake.errors import CommitConflict, NeedsAttention, Unavailable
from neuralake.storage import LogStore, OutcomeUnknown

__all__ = ["STALE_S", "Head"]

STALE_S = 3600.0
"""Log entries are cleaned up after hours at the earliest (`cleanup.py`); a handle that slept for
longer than this does not trust that the entry after its own is the newest, and opens anew."""


_NEVER = (float("-inf"), float("-inf"))


class Head:
    """The newest version that a handle has seen; see the module. For one thread.

    Raises, when it is made:
        UnknownName: no table is there; `kind` is "table".
        UnsupportedFeature: the table needs what we do not implement.
        UsageError: its writers agree on entries in another way than the store does.
    """

    def __init__(self, store: LogStore, *, clock: Clock, log: LogState | None = None) -> None:
        self._store = store
        self._clock = clock
        self.newest_ms = 0
        """Time of the newest live file, Unix milliseconds."""
        self.state: TableState
        began_s = self._now_s()
        self._adopt(log or replay(store), began_s)

    def refresh(self) -> int:
        """Read the entries that are new, and return the version; what it tells is durable.

        A table that took the place of the one that was opened is read from its beginning.

        Raises:
            UnknownName: the table is gone.
        """
        if self.is_stale() or self._is_replaced():
            began_s = self._now_s()
            self._adopt(replay(self._store), began_s)
        self.catch_up(None)
        return self.version

    def committed(self, app_id: str) -> int | None:
        """The transaction version of `app_id`, as of `version` or newer; None: none."""
        return self._txns.get(app_id)

    def note(self, app_id: str, version: int) -> None:
        """Remember that `app_id` has committed `version`."""
        self._txns[app_id] = version

    def catch_up(
        self, commit_id: str | None, on_entry: Callable[[Entry], None] = lambda _entry: None
    ) -> int | None:
        """Read the new entries; the version of the one that `commit_id` made, if it is there."""
        ours = None
        before, began_s, was_stale = self.version, self._now_s(), self.is_stale()
        try:
            for entry in entries_after(self._store, self.version):
                self._apply(entry)
                if commit_id is not None and entry.is_from(commit_id):
                    ours = entry.version
                    break
                on_entry(entry)
        except MissingEntry as error:
            # Cleaned up while we read, unless the log is damaged: who opens it anew will be told.
            raise Unavailable(f"{error.message} Read again.", version=self.version) from error
        if self.version > before:
            # Another process may have died between making an entry visible and making it durable.
            # We are about to rely on it, and to say so.
            self._settle(is_ours=ours is not None)
            self._mark_newest()
        if not was_stale:
            # That no entry follows tells nothing where the log may have been cleaned up past us.
            self._seen_s = began_s
        return ours

    def advance(self, version: int, *, now_ms: int, in_commit_ms: int | None = None) -> None:
        """Take over our own commit of `version`, made at `now_ms`.

        Args:
            in_commit_ms: the in-commit timestamp that it has, where the table wants one.

        Raises:
            OutcomeUnknown: it was held up for so long that the log may have been cleaned up past
                it; its name was free again then, and the entry is in no version of the table.
        """
        if self.is_stale() and not self._is_there(version - 1):
            raise OutcomeUnknown(
                f"The commit of version {version} of {self._store.uri} was held up for so long "
                f"that the log was cleaned up past it. Repeat the call with the same txn.",
                version=version,
            )
        self.version, self.newest_ms = version, max(self.newest_ms, now_ms)
        self.in_commit_ms = in_commit_ms
        self._mark_newest()
        self._seen_s = self._now_s()

    def change(self, actions: Sequence[Action]) -> None:
        """Take over what our own commit, which `advance` told of, changed of the table."""
        for action in actions:
            if isinstance(action, MetaData):
                self.state = TableState.of(self.state.protocol, action)

    def is_stale(self) -> bool:
        """Whether it was not looked at for so long that it must not be relied on."""
        return self._age_s(self._seen_s) > STALE_S

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

    def _apply(self, entry: Entry) -> None:
        protocol, metadata = self.state.protocol, self.state.metadata
        for line in entry.lines:
            protocol = line.protocol or protocol
            metadata = line.meta_data or metadata
            if line.txn is not None:
                self.note(line.txn.app_id, line.txn.version)
            if line.add is not None:
                self.newest_ms = max(self.newest_ms, line.add.modification_time)
            if line.commit_info is not None:
                self.in_commit_ms = line.commit_info.in_commit_timestamp
        if protocol is not self.state.protocol or metadata is not self.state.metadata:
            check_coordination(metadata.configuration, self._store)
            self.state = TableState.of(protocol, metadata)
        self.version = entry.version

    def _adopt(self, log: LogState, began_s: tuple[float, float]) -> None:
        """Take version, schema and transactions from the log, as it is in the store now."""
        check_coordination(log.metadata.configuration, self._store)
        self.state = TableState.of(log.protocol, log.metadata)
        self.version = log.version
        self._txns = {app_id: txn.version for app_id, txn in log.txns.items()}
        # The next commit's files must be newer than every live one, also if the clock went back:
        # their times are the order of rows within a partition.
        self.newest_ms = max(self.newest_ms, log.newest_ms)
        self.in_commit_ms = log.in_commit_ms
        """In-commit timestamp of `version`, Unix milliseconds; None: it has none."""
        self._mark_place()
        self._seen_s = began_s
        # Its process may have died between making the newest entry visible and making it durable.
        self._store.settle()

    def _mark_place(self) -> None:
        """Remember the newest entry, to know it again."""
        self._marked = self.version
        # None where the entry was cleaned up and only its checkpoint is left.
        self._stamp = self._store.stamp(entry_name(self.version))
        self._marked_s = self._now_s()

    def _mark_newest(self) -> None:
        """The same where it costs little. A commit has taken place whether this succeeds or not."""
        if not self._store.stamp_age_s_max:
            try:
                self._mark_place()
            except Unavailable:
                self._stamp = None  # Marked when it is next asked for.

    def _settle(self, *, is_ours: bool) -> None:
        try:
            self._store.settle()
        except Unavailable as error:
            if not is_ours:
                raise
            raise OutcomeUnknown(
                f"Version {self.version} of {self._store.uri} is committed, but perhaps not "
                f"durable: {error} Repeat the call with the same txn.",
                version=self.version,
            ) from error

    def _is_there(self, version: int) -> bool:
        """Whether the entry is certainly there; asked after a put, so no answer is a no."""
        try:
            return self._store.stamp(entry_name(version)) is not None
        except Unavailable:
            return False

    def _is_replaced(self) -> bool:
        """Whether the newest entry that we know is gone, or the log is another one."""
        if self._age_s(self._marked_s) < self._store.stamp_age_s_max:
            return False
        stamp, marked = self._stamp, self._marked
        self._mark_place()
        if stamp is None:
            return False
        if marked == self.version:
            replaced = self._stamp != stamp
        else:
            # Each question is a request here: ours of the last seconds were not marked one by one.
            replaced = self._stamp is None or self._store.stamp(entry_name(marked)) != stamp
        if replaced:
            # Also for the next question, however soon it comes.
            self._stamp, self._marked, self._marked_s = stamp, marked, _NEVER
        return replaced

    def _now_s(self) -> tuple[float, float]:
        return self._clock.now_s(), self._clock.monotonic_s()

    def _age_s(self, since_s: tuple[float, float]) -> float:
        # Both clocks: the monotonic one stands still while a laptop sleeps.
        now_s, monotonic_s = self._now_s()
        return max(now_s - since_s[0], monotonic_s - since_s[1])
