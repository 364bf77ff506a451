"""One batch write, tried on top of newer versions until it holds for all that was committed.

Optimistic: read a version, store what changes, and commit only if no entry that came meanwhile
removed what we read or added what we should have read. Otherwise again, from a newer version. What
was made of files that are still live is kept, so each further try reads only what is new, and a
writer that commits several times a second does not starve a delete that takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from neuralake.batch.change import Change, Outcome
from neuralake.batch.result import BatchResult
from neuralake.delta import DataFile, TableLog, Txn, snapshot
from neuralake.delta.actions import Action, Add, CommitInfo
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.files import DataFiles, NewFile
from neuralake.delta.log import Entry
from neuralake.delta.protocol import TableState
from neuralake.delta.snapshot import Snapshot, data_file
from neuralake.errors import (
    CommitConflict,
    NeedsAttention,
    Unavailable,
    UnknownName,
    UnsupportedFeature,
    UsageError,
)

__all__ = ["BatchWrite"]

# Each but the first reads only what is new; beside a writer of five commits a second about every
# second try of a slow store wins.
_ATTEMPTS_MAX = 50

_Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one attempt is to commit."""

    found: Snapshot
    files: DataFiles
    changed: list[tuple[DataFile, Outcome]]
    added: list[NewFile]
    moved_rows: int

    @property
    def is_empty(self) -> bool:
        return not self.changed and not self.added

    def actions(self, now_ms: int) -> list[Action]:
        removes = [
            self.files.tombstone(file, deleted_ms=now_ms, data_change=True)
            for file, _ in self.changed
        ]
        # In the place of the file that it was: rows that stay keep their order in the partition.
        rewritten = [
            outcome.rewritten.add(modified_ms=round(file.modified_s * 1000), data_change=True)
            for file, outcome in self.changed
            if outcome.rewritten is not None
        ]
        added = [file.add(modified_ms=now_ms, data_change=True) for file in self.added]
        return [*removes, *rewritten, *added]

    def result(self, version: int) -> BatchResult:
        outcomes = [outcome for _, outcome in self.changed]
        return BatchResult(
            version=version,
            rows_inserted=sum(file.content.rows for file in self.added) - self.moved_rows,
            rows_updated=sum(outcome.updated for outcome in outcomes),
            rows_deleted=sum(outcome.deleted for outcome in outcomes),
            rows_copied=sum(outcome.copied for outcome in outcomes),
            files_added=len(self.stored),
            files_removed=len(self.changed),
        )

    @property
    def stored(self) -> list[NewFile]:
        """All files that the commit adds."""
        rewritten = (outcome.rewritten for _, outcome in self.changed)
        return [*(file for file in rewritten if file is not None), *self.added]


class BatchWrite:
    """Commit the change that `make` gives for the table as it is; see the module.

    `make` is called anew when the table's schema or properties have changed. Files are looked at by
    `threads` at once.
    """

    def __init__(
        self,
        log: TableLog,
        make: Callable[[TableState], Change],
        txn: Txn | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self._log, self._make, self._txn, self._threads = log, make, txn, threads
        self._state: TableState | None = None
        self._outcomes: dict[_Key, Outcome] = {}
        self._rows: pa.Table | None = None
        self._added: list[NewFile] = []

    def run(self) -> BatchResult:
        """Try until it is committed, or was there, or there is nothing to do.

        Raises:
            CommitConflict: others were quicker each time; nothing was committed.
            OutcomeUnknown: the store gave no answer; repeat with the same txn.
        """
        for left in reversed(range(_ATTEMPTS_MAX)):
            try:
                return self._attempt()
            except CommitConflict as conflict:
                # Files that waited too long for their commit may be gone: write them anew.
                if not left or "write_s_max" in conflict.facts:
                    self._forget()
                if not left:
                    raise
            except (UsageError, Unavailable, NeedsAttention):
                # Only where the entry certainly does not exist; after anything else (an interrupt,
                # an unknown outcome) it may, and needs its files.
                self._forget()
                raise
        raise AssertionError("unreachable")

    def _attempt(self) -> BatchResult:
        version = self._log.refresh()
        if self._is_repeated():
            self._forget()
            return BatchResult(version=version, repeated=True)
        change = self._current_change()
        plan = self._plan(change, self._snapshot(version))
        if plan.is_empty and self._txn is None:
            return BatchResult(version=version)
        committed = self._commit(change, plan)
        if committed is None:
            self._forget()
            return BatchResult(version=self._log.version, repeated=True)
        return plan.result(committed)

    def _snapshot(self, version: int) -> Snapshot:
        """Raises CommitConflict: who slept here for days finds the log cleaned up past it."""
        try:
            return snapshot(self._log.store, version)
        except UnknownName as error:
            raise CommitConflict(
                f"Version {version} of {self._log.store.uri} can no longer be read: its log was "
                f"cleaned up while this write was held up.",
                version=version,
            ) from error

    def _is_repeated(self) -> bool:
        if self._txn is None:
            return False
        known = self._log.committed(self._txn.app_id)
        return known is not None and known >= self._txn.version

    def _current_change(self) -> Change:
        if self._state is not self._log.state:
            self._forget()
            self._state = self._log.state
            self._change = self._make(self._state)
        if self._change.removes_rows and self._state.properties.append_only:
            raise UsageError(
                f"{self._log.store.uri} has delta.appendOnly: no row of it can be removed or "
                f"changed.",
                property="delta.appendOnly",
            )
        return self._change

    def _plan(self, change: Change, found: Snapshot) -> _Plan:
        touched = [file for file in found.files if change.may_touch(file.partition, file.stats)]
        self._forget_but({_key(file) for file in touched})
        try:
            self._look_at([file for file in touched if _key(file) not in self._outcomes], change)
            outcomes = [self._outcomes[_key(file)] for file in touched]
            self._store(change.added(outcomes))
        except NeedsAttention as error:
            raise self._explained(error) from error
        except BaseException:
            self._forget()
            raise
        changed = [
            (file, outcome)
            for file, outcome in zip(touched, outcomes, strict=True)
            if outcome.is_change
        ]
        moved_rows = sum(each.moved.num_rows for each in outcomes if each.moved is not None)
        return _Plan(found, self._log.files, changed, self._added, moved_rows)

    def _look_at(self, files: Sequence[DataFile], change: Change) -> None:
        """Have the outcome of each; those that came before a failure are kept."""

        def look(file: DataFile) -> None:
            self._outcomes[_key(file)] = self._outcome(change, file)

        if len(files) < 2 or self._threads == 1:
            for file in files:
                look(file)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            asked = [pool.submit(look, file) for file in files]
            try:
                for each in asked:
                    each.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _outcome(self, change: Change, file: DataFile) -> Outcome:
        outcome = change.outcome(self._log.files, file)
        # Readers of the feed take a file that goes whole, or comes new, for what it says; only
        # rows that change within one need change files.
        if self._log.state.properties.change_data_feed and (outcome.copied or outcome.updated):
            if outcome.rewritten is not None:
                self._log.files.remove([outcome.rewritten])
            raise UnsupportedFeature(
                f"{self._log.store.uri} has a change data feed (delta.enableChangeDataFeed), and "
                f"this write changes single rows of file {file.path}: change files are not "
                f"implemented. Whole partitions can be deleted and overwritten, and rows appended.",
                features=["changeDataFeed"],
            )
        return outcome

    def _store(self, rows: pa.Table) -> None:
        """Have `rows` in new files, those of the last attempt if they are the same."""
        if self._rows is not None and rows.equals(self._rows):
            return
        self._log.files.remove(self._added)
        self._rows, self._added = rows, []
        if rows.num_rows:
            self._added = self._log.files.write(rows)

    def _explained(self, error: NeedsAttention) -> Exception:
        """A conflict, if the file that is missing is no longer part of the table."""
        if error.facts.get("missing"):
            now = snapshot(self._log.store)
            if error.path not in {file.path for file in now.files}:
                return CommitConflict(
                    f"File {error.path} was removed while it was to be read.", version=now.version
                )
        return error

    def _commit(self, change: Change, plan: _Plan) -> int | None:
        def reads(add: Add) -> bool:
            file = data_file(add, plan.found.state)
            return change.may_touch(file.partition, file.stats)

        entries: list[Entry] = []

        def overtaken() -> bool:
            # Stricter than the table's own rules, which let a blind append pass: rows that were
            # committed before this write are in it, so an upsert never doubles a key.
            for entry in entries:
                for line in entry.lines:
                    if line.add is not None and line.add.data_change and reads(line.add):
                        raise CommitConflict(
                            f"Version {entry.version} added file {line.add.path}, which should "
                            f"have been read.",
                            version=entry.version,
                        )
            return False

        return self._log.commit(
            plan.actions,
            self._info(change, plan),
            footprint=Footprint(
                change.operation,
                removes=frozenset(file.path for file, _ in plan.changed),
                reads=reads,
                app_id=None if self._txn is None else self._txn.app_id,
                version=plan.found.version,
            ),
            txn=self._txn,
            overtaken=overtaken,
            on_entry=entries.append,
        )

    def _info(self, change: Change, plan: _Plan) -> CommitInfo:
        name = {Operation.OVERWRITE: "WRITE"}.get(change.operation, change.operation.name)
        return CommitInfo(
            operation=name,
            operation_parameters=change.parameters(),
            is_blind_append=False,
            operation_metrics=_metrics(change.operation, plan),
        )

    def _forget_but(self, live: set[_Key]) -> None:
        """Drop what was made of files that are no longer to be touched."""
        gone = [key for key in self._outcomes if key not in live]
        outcomes = [self._outcomes.pop(key) for key in gone]
        self._remove([each.rewritten for each in outcomes])

    def _forget(self) -> None:
        """Drop all that was stored, and which no entry mentions."""
        self._forget_but(set())
        self._remove(self._added)
        self._rows, self._added = None, []

    def _remove(self, files: Sequence[NewFile | None]) -> None:
        self._log.files.remove([file for file in files if file is not None])


def _key(file: DataFile) -> _Key:
    # A file with another deletion vector has other rows.
    vector = file.deletion_vector
    return file.path, None if vector is None else vector.unique_id


def _metrics(operation: Operation, plan: _Plan) -> dict[str, str]:
    """`operationMetrics` under the names that other Delta writers use; all are texts."""
    did = plan.result(0)
    output_rows = sum(file.content.rows for file in plan.stored)
    found = {
        Operation.DELETE: {
            "numRemovedFiles": did.files_removed,
            "numAddedFiles": did.files_added,
            "numDeletedRows": did.rows_deleted,
            "numCopiedRows": did.rows_copied,
        },
        Operation.OVERWRITE: {
            "numFiles": did.files_added,
            "numOutputRows": output_rows,
            "numOutputBytes": sum(file.content.bytes for file in plan.stored),
            "numRemovedFiles": did.files_removed,
            "numDeletedRows": did.rows_deleted,
            "numCopiedRows": did.rows_copied,
        },
        Operation.MERGE: {
            "numTargetRowsInserted": did.rows_inserted,
            "numTargetRowsUpdated": did.rows_updated,
            "numTargetRowsDeleted": did.rows_deleted,
            "numTargetRowsCopied": did.rows_copied,
            "numOutputRows": output_rows,
            "numTargetFilesAdded": did.files_added,
            "numTargetFilesRemoved": did.files_removed,
        },
    }[operation]
    return {name: str(value) for name, value in found.items()}
