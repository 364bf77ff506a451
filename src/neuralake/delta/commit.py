"""The kept handle that commits: one put of the data, one put-if-absent of the log entry.

A commit that loses its race reads the entries in between and nothing else, so its cost does not
grow with the age of the table; whether it may come after them is `conflicts.py`'s question. What
happened to a put is looked up by the commit's id, never guessed. A handle is for one thread; any
number of handles and processes may commit to one table.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import Action, Add, CommitInfo, TxnAction, encode_entry
from neuralake.delta.attempt import Attempt, StoredRows, refuse_changes
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.files import DataFiles, Waiting
from neuralake.delta.growth import Growth
from neuralake.delta.head import Head
from neuralake.delta.log import Entry, entry_name, read_entry
from neuralake.delta.protocol import TableState
from neuralake.delta.replay import LogState
from neuralake.delta.table import ENGINE
from neuralake.errors import CommitConflict, Unavailable, UsageError
from neuralake.storage import AlreadyThere, LogStore, OutcomeUnknown, as_store

__all__ = ["WRITE_S_MAX", "Commit", "TableLog", "Txn"]

WRITE_S_MAX = 3600.0
"""How old a data file may be when a commit mentions it. Vacuum takes unmentioned files that are
older than its own limit, which must exceed this one."""

_DOUBTS_MAX = 5
# An append whose files are too old stores them anew; a machine that pauses so often is not well.
_REWRITES_MAX = 3
_APPEND = Footprint(Operation.APPEND)


class _TooOld(CommitConflict):
    """Data files waited for so long that vacuum may have taken them."""


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
        self,
        store: LogStore,
        *,
        clock: Clock,
        log: LogState | None = None,
        write_s_max: float = WRITE_S_MAX,
    ) -> None:
        """At the newest version, or at the one of `log`."""
        self._store, self._clock = store, clock
        self._write_s_max = write_s_max
        self._head = Head(store, clock=clock, log=log)
        self._waiting = Waiting(clock)
        self._files = DataFiles(store, self._head.state, self._waiting)

    @classmethod
    def open(
        cls, at: str | LogStore, *, clock: Clock | None = None, write_s_max: float = WRITE_S_MAX
    ) -> TableLog:
        """The table at `at`, at its newest version.

        Args:
            write_s_max: how old a data file may be when a commit mentions it.

        Raises:
            UnknownName: no table is there; `kind` is "table".
            UnsupportedFeature: the table needs what we do not implement; nothing is written.
            UsageError: its writers agree on the next entry in another way than the store does.
            NeedsAttention: its log is damaged.
        """
        return cls(as_store(at), clock=clock or SystemClock(), write_s_max=write_s_max)

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
        """Writes and reads data files as the table is now."""
        if self._files.state is not self.state:
            self._files = DataFiles(self._store, self.state, self._waiting)
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

    def append(
        self,
        rows: pa.Table,
        *,
        txn: Txn | None = None,
        info: CommitInfo | None = None,
        new_columns: Sequence[pa.Field] = (),
    ) -> Commit:
        """Commit `rows` as one new version: one file per partition value.

        When this returns, the rows are durable and every reader sees them together. With `txn`,
        repeating the call adds nothing, whatever happened to the first. The order of rows within a
        partition is kept. `info` is what the log says of it; default a stream's or a plain write.
        Those of `new_columns` that the table lacks are added to it by the same commit.

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
        growth = Growth(self.state, new_columns, uri=self._store.uri)
        writer = self._files_of(growth)
        fitted = writer.fit(rows)
        if fitted.num_rows == 0 and txn is None:
            return Commit(self.version, repeated=False, files=0, rows=0, bytes=0)
        stored = StoredRows(writer, fitted)
        name = "STREAMING UPDATE" if txn else "WRITE"
        info = info or CommitInfo(operation=name, is_blind_append=True)

        def overtaken() -> bool:
            nonlocal growth
            if self.state is not growth.before:
                growth = Growth(self.state, new_columns, uri=self._store.uri)
                stored.renew(self._files_of(growth), rows)
            return False

        def actions(now_ms: int) -> list[Action]:
            return [*growth.actions(self.version + 1, now_ms), *stored.adds(now_ms)]

        try:
            version = self._commit_fresh(stored, actions, info, txn, overtaken)
        except (UsageError, CommitConflict, Unavailable):
            # Only where the entry certainly does not exist; after anything else (an interrupt, an
            # unknown outcome) it may, and needs its files.
            stored.drop()
            raise
        if version is None:
            stored.drop()
            return Commit(self.version, repeated=True, files=0, rows=0, bytes=0)
        size = sum(file.content.bytes for file in stored.files)
        files = len(stored.files)
        return Commit(version, repeated=False, files=files, rows=fitted.num_rows, bytes=size)

    def _commit_fresh(
        self,
        stored: StoredRows,
        actions: Callable[[int], Sequence[Action]],
        info: CommitInfo,
        txn: Txn | None,
        overtaken: Callable[[], bool],
    ) -> int | None:
        """Commit the files of an append; those that became too old are stored anew."""
        for _ in range(_REWRITES_MAX):
            try:
                return self.commit(actions, info, footprint=_APPEND, txn=txn, overtaken=overtaken)
            except _TooOld:
                stored.renew(stored.writer, stored.rows)
        return self.commit(actions, info, footprint=_APPEND, txn=txn, overtaken=overtaken)

    def _files_of(self, growth: Growth) -> DataFiles:
        if growth.after is growth.before:
            return self.files
        return DataFiles(self._store, growth.after, self._waiting)

    def commit(
        self,
        actions: Callable[[int], Sequence[Action]],
        info: CommitInfo,
        *,
        footprint: Footprint,
        txn: Txn | None = None,
        overtaken: Callable[[], bool] = lambda: False,
        on_entry: Callable[[Entry], None] = lambda _entry: None,
        races_max: int = 1000,
    ) -> int | None:
        """Put one log entry after the newest; return its version, or None if there is no need to.

        Args:
            actions: gives the actions for a commit at a time (Unix milliseconds), without `txn`;
                asked again for each attempt.
            footprint: what the commit depends on. An entry that came since `footprint.version` and
                touches that is a CommitConflict.
            txn: committed with the actions; if the table has it already, nothing is (None).
            overtaken: asked after each lost race, when this handle has caught up; True stops
                (None). It may change what `actions` gives.
            on_entry: shown each entry that came in between.
            races_max: lost races after which to give up.

        Raises:
            CommitConflict: see `footprint`, `races_max` and `Txn.after`; or a data file waited for
                more than `write_s_max`, and must be written anew. Nothing was committed.
            UsageError: rows would be removed from a table with `delta.appendOnly`.
            Unavailable: nothing was committed.
            OutcomeUnknown: the store gave no answer; it may be committed.
        """
        attempt = Attempt(uuid.uuid4().hex, footprint, self.state, on_entry)
        if self._stops(txn, lambda: False):
            return None
        self.check(footprint)
        doubts = 0  # Puts for the same version of which we do not know whether they took place.
        for _ in range(races_max):
            if not doubts:
                if self._head.is_stale() and self._is_overtaken_asleep(footprint, txn, overtaken):
                    return None
                self._head.check_place()
            now_ms = max(
                int(self._clock.now_s() * 1000),
                self._head.newest_ms + 1,
                (self._head.in_commit_ms or 0) + 1,
            )
            asked = self.version + 1
            sent = actions(now_ms)
            entry = self._entry(attempt, info, txn, sent, now_ms, is_doubted=doubts > 0)
            try:
                self._store.put_if_absent(entry_name(asked), entry)
            except (AlreadyThere, OutcomeUnknown) as error:
                # What is there may be ours, too: a store's client may repeat a put by itself.
                ours = self._look_up(asked, attempt)
                if ours is not None:
                    return self._done(ours, attempt, txn)
                doubts = doubts + 1 if self.version < asked else 0
                if doubts == _DOUBTS_MAX:
                    raise self._unknown(asked) from error
            except Unavailable as error:
                if doubts:
                    raise self._unknown(asked) from error
                raise
            else:
                self._head.advance(asked, now_ms=now_ms)
                self._head.change(sent)
                return self._done(asked, attempt, txn)
            if not doubts:
                if self._stops(txn, overtaken):
                    return None
                attempt.raise_conflict(self.version)
        raise CommitConflict(
            f"Lost {races_max} races for the next version of {self._store.uri}.",
            version=self.version,
        )

    def check(self, footprint: Footprint) -> None:
        """Compare `footprint` with the entries between its version and what this handle has seen.

        Raises:
            CommitConflict: one touches it, or is not there any more.
        """
        if footprint.version is None:
            return
        for version in range(footprint.version + 1, self.version + 1):
            entry = read_entry(self._store, version)
            if entry is None:
                raise CommitConflict(
                    f"Version {footprint.version} of {self._store.uri} is too old to commit on: "
                    f"entry {version} is gone. Read again.",
                    version=self.version,
                )
            attempt = Attempt("", footprint, self.state)
            attempt.see(entry)
            attempt.raise_conflict(self.version)

    def _stops(self, txn: Txn | None, overtaken: Callable[[], bool]) -> bool:
        return (txn is not None and self._covers(txn)) or overtaken()

    def _is_overtaken_asleep(
        self, footprint: Footprint, txn: Txn | None, overtaken: Callable[[], bool]
    ) -> bool:
        """Open the table anew after a long pause; whether to stop."""
        if footprint.operation is not Operation.APPEND:
            # Entries may have been cleaned up meanwhile: nobody can say what is in between.
            raise CommitConflict(
                f"The handle of {self._store.uri} was not used for too long. Read again.",
                version=self.version,
            )
        self.refresh()
        return self._stops(txn, overtaken)

    def _entry(
        self,
        attempt: Attempt,
        info: CommitInfo,
        txn: Txn | None,
        actions: Sequence[Action],
        now_ms: int,
        *,
        is_doubted: bool,
    ) -> bytes:
        """The bytes of the entry, if it may be put now."""
        refuse_changes(self.state, actions, attempt.operation, uri=self._store.uri)
        age_s = self._waiting.age_s(actions)
        if age_s > self._write_s_max:
            if is_doubted:
                raise self._unknown(self.version + 1)
            raise _TooOld(
                f"A data file for {self._store.uri} waited {age_s:.0f} s for its commit; after "
                f"{self._write_s_max:.0f} s vacuum may take it. Write it anew.",
                version=self.version,
                age_s=age_s,
                write_s_max=self._write_s_max,
            )
        attempt.paths = [action.path for action in actions if isinstance(action, Add)]
        txns = (
            [TxnAction(app_id=txn.app_id, version=txn.version, last_updated=now_ms)] if txn else []
        )
        return encode_entry([self._sign(info, attempt.commit_id, now_ms), *txns, *actions])

    def _done(self, version: int, attempt: Attempt, txn: Txn | None) -> int:
        self._waiting.forget(attempt.paths)
        if txn is not None:
            self._head.note(txn.app_id, txn.version)
        return version

    def _look_up(self, asked: int, attempt: Attempt) -> int | None:
        """Catch up after a put for version `asked` that failed or has no known outcome."""
        try:
            return self._head.catch_up(attempt.commit_id, attempt.see)
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
            in_commit_timestamp=now_ms if self.state.properties.in_commit_timestamps else None,
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
