"""The kept handle that commits: one put of the data, one put-if-absent of the log entry.

A commit that loses its race reads the entries in between and nothing else, so its cost does not
grow with the age of the table. What happened to a put is looked up by the commit's id, never
guessed. A handle is for one thread; any number of handles and processes may commit to one table.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import Action, CommitInfo, TxnAction, encode_entry
from neuralake.delta.files import DataFiles
from neuralake.delta.head import Head
from neuralake.delta.log import Entry, entry_name
from neuralake.delta.protocol import TableState
from neuralake.delta.snapshot import open_delta
from neuralake.delta.table import ENGINE
from neuralake.errors import CommitConflict, Unavailable, UsageError
from neuralake.storage import AlreadyThere, LogStore, OutcomeUnknown, as_store

__all__ = ["Commit", "TableLog", "Txn"]

_DOUBTS_MAX = 5


@dataclass(frozen=True, slots=True)
class Txn:
    """`version` of application `app_id`: the table keeps the highest, and repeats are dropped.

    `after` is the version that the rows go on from. With it, a batch of which another writer has
    committed a part is a `CommitConflict`: its version is new, but some of its rows are not.
    """

    app_id: str
    version: int
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """What an append did. `repeated`: its txn was in the log already, and nothing was written."""

    version: int
    repeated: bool
    files: int
    rows: int
    bytes: int


class TableLog:
    """A table opened for commits; see the module. Make it with `open`."""

    def __init__(
        self, store: LogStore, table: DeltaTable, *, clock: Clock, state: TableState | None = None
    ) -> None:
        self._store, self._clock = store, clock
        self._head = Head(store, table, clock=clock, state=state)
        self._files = DataFiles(store, self._head.state)

    @classmethod
    def open(cls, at: str | LogStore, *, clock: Clock | None = None) -> TableLog:
        """The table at `at`, at its newest version.

        Raises:
            UnknownName: no table is there; `kind` is "table".
            UnsupportedFeature: the table needs what we do not implement; nothing is written.
        """
        store = as_store(at)
        log = cls(store, open_delta(store), clock=clock or SystemClock())
        log.refresh()
        store.settle()
        return log

    @property
    def version(self) -> int:
        """The newest version this handle has seen."""
        return self._head.version

    @property
    def schema(self) -> pa.Schema:
        return self.state.schema

    @property
    def partition_by(self) -> tuple[str, ...]:
        return self.state.partition_by

    @property
    def state(self) -> TableState:
        return self._head.state

    @property
    def store(self) -> LogStore:
        return self._store

    @property
    def files(self) -> DataFiles:
        """Writes data files as the table is now."""
        if self._files.state is not self.state:
            self._files = DataFiles(self._store, self.state)
        return self._files

    def refresh(self) -> int:
        """Read the entries that are new, and return the version; what it tells is durable.

        A table that took the place of the one that was opened is read from its beginning.

        Raises:
            UnknownName: the table is gone.
        """
        return self._head.refresh()

    def catch_up(self, on_entry: Callable[[Entry], None]) -> None:
        """Read the entries that are new and show each to `on_entry`."""
        self._head.catch_up(None, on_entry)

    def committed(self, app_id: str) -> int | None:
        """The highest transaction version of `app_id`, as of `version` or newer; None: none."""
        return self._head.committed(app_id)

    def append(self, rows: pa.Table, *, txn: Txn | None = None) -> Commit:
        """Commit `rows` as one new version: one file per partition value.

        When this returns, the rows are durable and every reader sees them together. With `txn`,
        repeating the call adds nothing, whatever happened to the first. The order of rows within a
        partition is kept.

        Raises:
            SchemaMismatch: the rows do not fit the table (anew, if its schema was changed).
            CommitConflict: the table is not at `txn.after`, or another one took its place; nothing
                was committed. `refresh` tells what is there.
            NeedsAttention: the table was deleted.
            InvalidRows: a partition value has no text form.
            Unavailable: nothing was stored.
            OutcomeUnknown: the store gave no answer; repeat the call with the same `txn`.
            UnsupportedFeature: somebody turned on a feature that we do not implement.
        """
        if self._head.is_stale():
            self.refresh()
        self._head.check_place()
        if txn is not None and self._covers(txn):
            return Commit(self.version, repeated=True, files=0, rows=0, bytes=0)
        fitted = self.files.fit(rows)
        if fitted.num_rows == 0 and txn is None:
            return Commit(self.version, repeated=False, files=0, rows=0, bytes=0)
        writer = self.files
        files = writer.write(fitted)

        def actions(now_ms: int) -> list[Action]:
            ours = (
                [TxnAction(app_id=txn.app_id, version=txn.version, last_updated=now_ms)]
                if txn
                else []
            )
            return [*ours, *(file.add(modified_ms=now_ms, data_change=True) for file in files)]

        def overtaken() -> bool:
            """Whether to stop: our txn is there. Brings the files to a changed table first."""
            nonlocal writer, files
            if txn is not None and self._covers(txn):
                return True
            if self.files is not writer:
                writer, stale = self.files, files
                files = writer.write(writer.fit(rows))
                writer.remove(stale)
            return False

        info = CommitInfo(operation="STREAMING UPDATE" if txn else "WRITE", is_blind_append=True)
        try:
            version = self.commit(actions, info, overtaken=overtaken)
        except (UsageError, CommitConflict, Unavailable):
            # Only where the entry certainly does not exist; after anything else (an interrupt, an
            # unknown outcome) it may, and needs its files.
            writer.remove(files)
            raise
        if version is None:
            writer.remove(files)
            return Commit(self.version, repeated=True, files=0, rows=0, bytes=0)
        if txn is not None:
            self._head.note(txn.app_id, txn.version)
        size = sum(len(file.content.data) for file in files)
        return Commit(version, repeated=False, files=len(files), rows=fitted.num_rows, bytes=size)

    def commit(
        self,
        actions: Callable[[int], Sequence[Action]],
        info: CommitInfo,
        *,
        overtaken: Callable[[], bool],
        on_entry: Callable[[Entry], None] = lambda _entry: None,
        races_max: int = 1000,
    ) -> int | None:
        """Put one log entry after the newest; return its version, or None if told to stop.

        Args:
            actions: gives the actions for a commit at a time (Unix milliseconds).
            overtaken: asked after each lost race, when this handle has caught up; True stops.
            on_entry: shown each entry that came in between.
            races_max: lost races after which to give up.
        """
        commit_id = uuid.uuid4().hex
        doubts = 0  # Puts for the same version of which we do not know whether they took place.
        for _ in range(races_max):
            if self._head.is_stale() and not doubts:
                self.refresh()
                if overtaken():
                    return None
            if not doubts:
                self._head.check_place()
            now_ms = max(int(self._clock.now_s() * 1000), self._head.newest_ms + 1)
            entry = encode_entry([self._sign(info, commit_id, now_ms), *actions(now_ms)])
            asked = self.version + 1
            try:
                self._store.put_if_absent(entry_name(asked), entry)
            except (AlreadyThere, OutcomeUnknown) as error:
                # What is there may be ours, too: a store's client may repeat a put by itself.
                ours = self._look_up(asked, commit_id, on_entry)
                if ours is not None:
                    return ours
                doubts = doubts + 1 if self.version < asked else 0
                if doubts == _DOUBTS_MAX:
                    raise self._unknown(asked) from error
            except Unavailable as error:
                if doubts:
                    raise self._unknown(asked) from error
                raise
            else:
                self._head.advance(asked, now_ms=now_ms)
                return asked
            if not doubts and overtaken():
                return None
        raise CommitConflict(
            f"Lost {races_max} races for the next version of {self._store.uri}.",
            version=self.version,
        )

    def _look_up(self, asked: int, commit_id: str, on_entry: Callable[[Entry], None]) -> int | None:
        """Catch up after a put for version `asked` that failed or has no known outcome."""
        try:
            return self._head.catch_up(commit_id, on_entry)
        except Unavailable as error:
            if self.version < asked:
                raise self._unknown(asked) from error
            raise

    def _unknown(self, asked: int) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"The store did not say whether version {asked} of {self._store.uri} was committed. "
            f"Repeat the call with the same txn.",
            version=asked,
        )

    def _sign(self, info: CommitInfo, commit_id: str, now_ms: int) -> CommitInfo:
        return CommitInfo(
            timestamp=now_ms,
            operation=info.operation,
            operation_parameters=info.operation_parameters or {},
            read_version=self.version,
            is_blind_append=info.is_blind_append,
            operation_metrics=info.operation_metrics,
            engine_info=ENGINE,
            txn_id=commit_id,
        )

    def _covers(self, txn: Txn) -> bool:
        """Whether the table has `txn`; raises CommitConflict if it has a part of its rows."""
        known = self.committed(txn.app_id)
        if known is not None and txn.after is not None and txn.after != known < txn.version:
            raise CommitConflict(
                f"{txn.app_id!r} goes on from {txn.after}, but {self._store.uri} is at {known}: "
                f"another writer was here. Read again behind {known}.",
                version=self.version,
                committed=known,
            )
        return known is not None and known >= txn.version
