"""The kept handle that commits: one put of the data, one put-if-absent of the log entry.

`TableLog` knows the newest version it has seen, the schema, and the transactions of the
applications that asked. A commit that loses its race reads the entries in between and nothing else,
so its cost does not grow with the age of the table. What happened to a put is looked up by the
commit's id, never guessed. A handle is for one thread; any number of handles and processes may
commit to one table.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa
from deltalake import DeltaTable

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import Action, Add, CommitInfo, TxnAction, encode_entry
from neuralake.delta.log import Entry, entries_after, entry_name, has_log
from neuralake.delta.parquet import EncodedFile, Encoder
from neuralake.delta.partition import folder, normalise, split
from neuralake.delta.protocol import TableState
from neuralake.delta.snapshot import newest_ms, open_delta, state_of
from neuralake.delta.stores import AlreadyThere, LogStore, OutcomeUnknown, open_store
from neuralake.delta.table import ENGINE
from neuralake.errors import CommitConflict, NeedsAttention, Unavailable, UsageError
from neuralake.schema import conform

__all__ = ["Commit", "NewFile", "TableLog", "Txn", "store_name"]

# Log entries are cleaned up after days at the earliest; a handle that slept for an hour does not
# trust that the entry after its own is the newest, and opens the table anew.
_STALE_S = 3600.0
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


@dataclass(frozen=True, slots=True)
class NewFile:
    """A data file that was stored and waits for its commit."""

    name: str
    partition: dict[str, str | None]
    content: EncodedFile

    def add(self, *, modified_ms: int, data_change: bool) -> Add:
        return Add(
            path=quote(self.name, safe="/=-._~"),
            partition_values=self.partition,
            size=len(self.content.data),
            modification_time=modified_ms,
            data_change=data_change,
            stats=self.content.stats,
        )


def store_name(path: str) -> str:
    """The name in the store of an `add.path`, which is URL-encoded."""
    return unquote(path)


class TableLog:
    """A table opened for commits; see the module. Make it with `open`."""

    def __init__(
        self, store: LogStore, table: DeltaTable, *, clock: Clock, state: TableState | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._version = 0
        self._newest_ms = 0
        # delta-rs's snapshot at `_version`, to look up transactions in; dropped at the first
        # change, since it holds every file of the table in memory.
        self._base: DeltaTable | None = None
        self._adopt(table, state)

    @classmethod
    def open(
        cls, uri: str, *, store: LogStore | None = None, clock: Clock | None = None
    ) -> TableLog:
        """The table at `uri`, at its newest version.

        Raises:
            UnknownName: no table is there; `kind` is "table".
            UnsupportedFeature: the table needs what we do not implement; nothing is written.
        """
        store = store or open_store(uri)
        log = cls(store, open_delta(uri), clock=clock or SystemClock())
        log.refresh()
        store.settle()
        return log

    @property
    def version(self) -> int:
        """The newest version this handle has seen."""
        return self._version

    @property
    def schema(self) -> pa.Schema:
        return self._state.schema

    @property
    def partition_by(self) -> tuple[str, ...]:
        return self._state.partition_by

    @property
    def state(self) -> TableState:
        return self._state

    @property
    def store(self) -> LogStore:
        return self._store

    def refresh(self) -> int:
        """Read the entries that are new, and return the version; what it tells is durable.

        A table that took the place of the one that was opened is read from its beginning.

        Raises:
            UnknownName: the table is gone.
        """
        if self._is_stale() or self._is_replaced():
            self._adopt(open_delta(self._store.uri), None)
            self._store.settle()
        self._catch_up(None)
        return self._version

    def committed(self, app_id: str) -> int | None:
        """The highest transaction version of `app_id`, as of `version` or newer; None: none."""
        if app_id not in self._txns:
            # Once per application and handle; the commit path keeps it current from then on.
            self._txns[app_id] = self._look_up_txn(app_id)
        return self._txns[app_id]

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
        if self._is_stale():
            self.refresh()
        self._check_place()
        if txn is not None and self._covers(txn):
            return Commit(self._version, repeated=True, files=0, rows=0, bytes=0)
        fitted = self._fit(rows)
        if fitted.num_rows == 0 and txn is None:
            return Commit(self._version, repeated=False, files=0, rows=0, bytes=0)
        state, files = self._state, self.write_files(split(fitted, self.partition_by))

        def actions(now_ms: int) -> list[Action]:
            ours = (
                [TxnAction(app_id=txn.app_id, version=txn.version, last_updated=now_ms)]
                if txn
                else []
            )
            return [*ours, *(file.add(modified_ms=now_ms, data_change=True) for file in files)]

        def overtaken() -> bool:
            """Whether to stop: our txn is there. Brings the files to a changed table first."""
            nonlocal state, files
            if txn is not None and self._covers(txn):
                return True
            if self._state is not state:
                stale, state = files, self._state
                files = self.write_files(split(self._fit(rows), self.partition_by))
                self._store.remove(file.name for file in stale)
            return False

        info = CommitInfo(operation="STREAMING UPDATE" if txn else "WRITE", is_blind_append=True)
        try:
            version = self.commit(actions, info, overtaken=overtaken)
        except (UsageError, CommitConflict, Unavailable):
            # Only where the entry certainly does not exist; after anything else (an interrupt, an
            # unknown outcome) it may, and needs its files.
            self._store.remove(file.name for file in files)
            raise
        if version is None:
            self._store.remove(file.name for file in files)
            return Commit(self._version, repeated=True, files=0, rows=0, bytes=0)
        if txn is not None:
            self._note(txn.app_id, txn.version)
        size = sum(len(file.content.data) for file in files)
        return Commit(version, repeated=False, files=len(files), rows=fitted.num_rows, bytes=size)

    @property
    def file_schema(self) -> pa.Schema:
        """Columns of the data files: all but the partition columns."""
        return self._encoder.schema

    def catch_up(self, on_entry: Callable[[Entry], None]) -> None:
        """Read the entries that are new and show each to `on_entry`."""
        self._catch_up(None, on_entry)

    def write_file(self, partition: dict[str, str | None], batches: Iterable[pa.Table]) -> NewFile:
        """Store `batches` as one durable data file that nothing refers to yet."""
        content = self._encoder.encode_all(batches)
        file = NewFile(
            f"{folder(partition)}part-00000-{uuid.uuid4().hex}.parquet", partition, content
        )
        self._store.put({file.name: content.data})
        return file

    def write_files(self, parts: Sequence[tuple[dict[str, str | None], pa.Table]]) -> list[NewFile]:
        """Store one data file per part, all durable; nothing refers to them yet."""
        label = uuid.uuid4().hex
        files = [
            NewFile(
                f"{folder(values)}part-{i:05d}-{label}.parquet", values, self._encoder.encode(rows)
            )
            for i, (values, rows) in enumerate(parts)
        ]
        if files:
            self._store.put({file.name: file.content.data for file in files})
        return files

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
            if self._is_stale() and not doubts:
                self.refresh()
                if overtaken():
                    return None
            if not doubts:
                self._check_place()
            now_ms = max(int(self._clock.now_s() * 1000), self._newest_ms + 1)
            entry = encode_entry([self._sign(info, commit_id, now_ms), *actions(now_ms)])
            asked = self._version + 1
            try:
                self._store.put_if_absent(entry_name(asked), entry)
            except (AlreadyThere, OutcomeUnknown) as error:
                # What is there may be ours, too: a store's client may repeat a put by itself.
                ours = self._look_up(asked, commit_id, on_entry)
                if ours is not None:
                    return ours
                doubts = doubts + 1 if self._version < asked else 0
                if doubts == _DOUBTS_MAX:
                    raise self._unknown(asked) from error
            except Unavailable as error:
                if doubts:
                    raise self._unknown(asked) from error
                raise
            else:
                self._version, self._newest_ms, self._base = asked, now_ms, None
                self._mark_place()
                self._touch()
                return asked
            if not doubts and overtaken():
                return None
        raise CommitConflict(
            f"Lost {races_max} races for the next version of {self._store.uri}.",
            version=self._version,
        )

    def _look_up(self, asked: int, commit_id: str, on_entry: Callable[[Entry], None]) -> int | None:
        """Catch up after a put for version `asked` that failed or has no known outcome."""
        try:
            return self._catch_up(commit_id, on_entry)
        except Unavailable as error:
            if self._version < asked:
                raise self._unknown(asked) from error
            raise

    def _unknown(self, asked: int) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"The store did not say whether version {asked} of {self._store.uri} was committed. "
            f"Repeat the call with the same txn.",
            version=asked,
        )

    def _fit(self, rows: pa.Table) -> pa.Table:
        return normalise(conform(rows, self.schema, name=self._store.uri), self.partition_by)

    def _sign(self, info: CommitInfo, commit_id: str, now_ms: int) -> CommitInfo:
        return CommitInfo(
            timestamp=now_ms,
            operation=info.operation,
            operation_parameters=info.operation_parameters or {},
            read_version=self._version,
            is_blind_append=info.is_blind_append,
            operation_metrics=info.operation_metrics,
            engine_info=ENGINE,
            txn_id=commit_id,
        )

    def _look_up_txn(self, app_id: str) -> int | None:
        # delta-rs reads the log once more for this, so the entries of an old snapshot must exist.
        if self._base is None or self._is_stale():
            self._base = open_delta(self._store.uri)
            self._store.settle()
        found: int | None = self._base.transaction_version(app_id)
        return found

    def _covers(self, txn: Txn) -> bool:
        """Whether the table has `txn`; raises CommitConflict if it has a part of its rows."""
        known = self.committed(txn.app_id)
        if known is not None and txn.after is not None and txn.after != known < txn.version:
            raise CommitConflict(
                f"{txn.app_id!r} goes on from {txn.after}, but {self._store.uri} is at {known}: "
                f"another writer was here. Read again behind {known}.",
                version=self._version,
                committed=known,
            )
        return known is not None and known >= txn.version

    def _note(self, app_id: str, version: int) -> None:
        # Only applications that were asked about: a table of many writers stays small in memory.
        if app_id in self._txns:
            self._txns[app_id] = max(version, self._txns[app_id] or 0)

    def _catch_up(
        self, commit_id: str | None, on_entry: Callable[[Entry], None] = lambda _entry: None
    ) -> int | None:
        """Read the new entries; the version of the one that `commit_id` made, if it is there."""
        ours = None
        before = self._version
        for entry in entries_after(self._store, self._version):
            self._apply(entry)
            if commit_id is not None and entry.is_from(commit_id):
                ours = entry.version
                break
            on_entry(entry)
        if self._version > before:
            # Another process may have died between making an entry visible and making it durable.
            # We are about to rely on it, and to say so.
            self._store.settle()
            self._base = None
            self._mark_place()
        self._touch()
        return ours

    def _apply(self, entry: Entry) -> None:
        protocol, metadata = self._state.protocol, self._state.metadata
        for line in entry.lines:
            protocol = line.protocol or protocol
            metadata = line.meta_data or metadata
            if line.txn is not None:
                self._note(line.txn.app_id, line.txn.version)
            if line.add is not None:
                self._newest_ms = max(self._newest_ms, line.add.modification_time)
        if protocol is not self._state.protocol or metadata is not self._state.metadata:
            self._set_state(TableState.of(protocol, metadata))
        self._version = entry.version

    def _adopt(self, table: DeltaTable, state: TableState | None) -> None:
        """Take version, schema and transactions from delta-rs's snapshot."""
        self._base = table
        self._txns: dict[str, int | None] = {}
        self._set_state(state or state_of(table))
        self._version = table.version()
        # The next commit's files must be newer than every live one, also if the clock went back:
        # their times are the order of rows within a partition.
        self._newest_ms = max(self._newest_ms, newest_ms(table))
        self._mark_place()
        self._touch()

    def _set_state(self, state: TableState) -> None:
        self._state = state
        body = [field for field in state.schema if field.name not in state.partition_by]
        self._encoder = Encoder(pa.schema(body))

    def _mark_place(self) -> None:
        # None where the entry was cleaned up and only its checkpoint is left.
        self._stamp = self._store.stamp(entry_name(self._version))

    def _is_replaced(self) -> bool:
        """Whether the newest entry that we know is gone, or is another one."""
        stamp = self._stamp
        return stamp is not None and self._store.stamp(entry_name(self._version)) != stamp

    def _check_place(self) -> None:
        """Refuse to commit on top of what is not the log that this handle has read."""
        if not self._is_replaced():
            return
        what = f"The table at {self._store.uri} was deleted or replaced while it was open"
        if not has_log(self._store):
            raise NeedsAttention(f"{what}: there is no log any more.", version=self._version)
        raise CommitConflict(
            f"{what}: entry {self._version} is not the one that was read. Read again.",
            version=self._version,
        )

    def _touch(self) -> None:
        self._seen_s = (self._clock.now_s(), self._clock.monotonic_s())

    def _is_stale(self) -> bool:
        # Both clocks: the monotonic one stands still while a laptop sleeps.
        now_s, monotonic_s = self._clock.now_s(), self._clock.monotonic_s()
        return max(now_s - self._seen_s[0], monotonic_s - self._seen_s[1]) > _STALE_S
