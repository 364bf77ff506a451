"""Rewrite small files of a table into fewer large ones, changing no row.

A commit removes the small files and adds the large ones with `dataChange=false`. It is made only if
every removed file is still live as it was read, the table is described as it was, and as many rows
go out as came in; otherwise the work is dropped: compaction gives way to everyone. An append
meanwhile is no conflict, transactions stay as they are, and two compactions at once cost no more
than the work of one. Rows keep their order within a partition (a new file takes the place of the
newest in it), unless the table asks to be sorted by `cluster_by`.

Memory: about one row group of the file that is read and one of the file that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import Action, Add, CommitInfo
from neuralake.delta.clustering import CLUSTERED_BY, clustering_of, mark_of
from neuralake.delta.commit import WRITE_S_MAX, TableLog
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.files import NewFile
from neuralake.delta.lease import Lease
from neuralake.delta.live_files import LiveFiles
from neuralake.delta.old_calendar import OldCalendar
from neuralake.delta.plan import Bin, plan, shares
from neuralake.delta.rewrite import rewrite
from neuralake.errors import CommitConflict, NeedsAttention, SchemaMismatch, Unavailable, UsageError
from neuralake.storage import LogStore, as_store

__all__ = ["CompactResult", "Compactor", "compact_once"]

# Lost races against appenders alone; each costs one read and one put.
_RACES_MAX = 100
# Input of one commit: about two seconds of work, which is what a conflict or a crash can waste.
_COMMIT_BYTES = 256 * 1024 * 1024
_PURPOSE = "compaction"


@dataclass(frozen=True, slots=True)
class CompactResult:
    """What one round did. `conflicts`: bins whose work was dropped; try again later."""

    partitions: int = 0
    files_removed: int = 0
    files_added: int = 0
    rows: int = 0
    bytes: int = 0
    """Size of the files that were removed."""
    version: int | None = None
    """The newest version that this round made; None: nothing was rewritten."""
    conflicts: int = 0
    is_elsewhere: bool = False
    """Another compactor has the lease of this table: there may be work, and it is not ours."""


def compact_once(
    at: str | LogStore,
    *,
    target_bytes: int,
    files_min: int,
    cluster_by: Sequence[str] | None = None,
    clock: Clock | None = None,
) -> CompactResult:
    """One round of a `Compactor`, which says what the arguments and errors are."""
    compactor = Compactor(
        at, target_bytes=target_bytes, files_min=files_min, cluster_by=cluster_by, clock=clock
    )
    try:
        return compactor.run_round()
    finally:
        compactor.close()


class Compactor:
    """Compaction of one table, round by round; a round reads only what is new in the log.

    Between rounds it keeps what it knows of the table's files, and the lease that makes others
    leave the table to it. For one thread; `close` gives the lease back.

    Args:
        target_bytes: size of a full file; `delta.targetFileSize` of the table wins.
        files_min: files that must be worth joining before any is.
        cluster_by: columns to sort the rows of a file by; None: those that the table's property
            `neuralake.clusterBy` names, if it is set.
        lease_s: length of the lease; a compactor that died is waited for that long.
        write_s_max: as of `TableLog.open`.
    """

    def __init__(
        self,
        at: str | LogStore,
        *,
        target_bytes: int,
        files_min: int,
        cluster_by: Sequence[str] | None = None,
        lease_s: float = 60.0,
        write_s_max: float = WRITE_S_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._store, self._clock = as_store(at), clock or SystemClock()
        self._target_bytes, self._files_min = target_bytes, files_min
        self._asked_clustering = cluster_by
        self._lease_s, self._write_s_max = lease_s, write_s_max
        self._lease: Lease | None = None
        self._files: LiveFiles | None = None
        # Not damaged, but nothing that we may write anew: told once, then their neighbours go on.
        self._left_alone: set[str] = set()

    def run_round(self) -> CompactResult:
        """Rewrite what is worth it now, in commits of bounded size.

        Raises:
            UnknownName: no table is there.
            UnsupportedFeature: the table needs what we do not implement.
            UsageError: a column of `cluster_by` is not there, or cannot be sorted by.
            NeedsAttention: a live file is missing, or has other rows than the log says; or has
                days in Spark's old calendar, which is told once, and the file is left alone.
            SchemaMismatch: another engine's file has values that do not fit the table's columns.
                Both are raised when all other bins are done.
            Unavailable: the store failed; what was committed before stays so.
        """
        if not self._due():
            return CompactResult()
        if not self._hold():
            return CompactResult(is_elsewhere=True)
        # Who had the lease before may have done the work.
        bins = self._due()
        result, failure = CompactResult(), None
        for share in shares(bins, bytes_max=_COMMIT_BYTES):
            work = _Work(self._log, self._live, self._lease, self._by)
            try:
                result = _sum(result, work.done(share))
            except CommitConflict:
                result = replace(result, conflicts=result.conflicts + len(share))
            # Told at the end: a file that cannot be rewritten must not starve the others.
            failure = failure or work.failure
            self._left_alone |= work.left_alone
        if result.conflicts or failure is not None:
            self._files = None  # Perhaps what we know is of a table that was replaced.
        if failure is not None:
            raise failure
        return result

    @property
    def version(self) -> int:
        """The newest version of the table that it has seen; -1: it has not looked."""
        return -1 if self._files is None else self._files.version

    def close(self) -> None:
        """Give the lease back; the compactor may be used again."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _due(self) -> list[Bin]:
        """The bins of the partitions that changed since they were last found in order."""
        if self._files is None or not self._files.catch_up():
            self._files = LiveFiles(self._store, clock=self._clock, write_s_max=self._write_s_max)
        self._by = clustering_of(self._log.state, self._asked_clustering)
        found: list[Bin] = []
        for partition, files in self._live.changed():
            bins = plan(
                files,
                target_bytes=self._log.state.properties.target_bytes or self._target_bytes,
                files_min=self._files_min,
                clustering=mark_of(self._by),
                left_alone=self._left_alone,
            )
            if not bins:
                self._live.settle(partition)
            found += bins
        return found

    def _hold(self) -> bool:
        """Have the lease: the one of the last round, or a new one."""
        if self._lease is None or not self._lease.keep():
            self._lease = Lease.take(
                self._store, _PURPOSE, clock=self._clock, length_s=self._lease_s
            )
        return self._lease is not None

    @property
    def _live(self) -> LiveFiles:
        assert self._files is not None  # noqa: S101 `_due` comes first; for mypy
        return self._files

    @property
    def _log(self) -> TableLog:
        return self._live.log


class _Work:
    """The rewrite of some bins and their commit."""

    def __init__(
        self, log: TableLog, live: LiveFiles, lease: Lease | None, by: tuple[str, ...]
    ) -> None:
        self._log, self._live, self._lease, self._by = log, live, lease, by
        self._outputs: list[tuple[Bin, NewFile | None]] = []
        self._conflicts = 0
        self.failure: NeedsAttention | SchemaMismatch | None = None
        """Why a bin could not be rewritten."""
        self.left_alone: set[str] = set()
        """Paths of files that must not be written anew."""

    def done(self, bins: list[Bin]) -> CompactResult:
        """Rewrite `bins` and commit those that nobody has touched meanwhile.

        Raises:
            CommitConflict: nothing was committed; the new files are gone.
        """
        try:
            for packed in bins:
                self._write(packed)
        except BaseException:
            self._drop(self._outputs)
            raise
        if not self._outputs:
            return CompactResult(conflicts=self._conflicts)
        try:
            version = self._commit()
        except (UsageError, CommitConflict, Unavailable):
            # Only where the entry certainly does not exist; otherwise it needs its files.
            self._drop(self._outputs)
            raise
        return self._result(version)

    def _write(self, packed: Bin) -> None:
        try:
            self._check_untouched(packed)
            self._outputs.append((packed, self._rewritten(packed)))
        except CommitConflict:
            self._conflicts += 1
        except (NeedsAttention, SchemaMismatch) as error:
            if self._live.are_there(packed.files):
                self.failure = self.failure or error
                if isinstance(error, OldCalendar):
                    self.left_alone.add(error.facts["path"])
            else:
                self._conflicts += 1  # Vacuum took the files of a plan that is too old.

    def _rewritten(self, packed: Bin) -> NewFile | None:
        """The new file with the rows of `packed`; None if all of them are deleted."""
        if all(file.live_rows == 0 for file in packed.files):
            return None
        return rewrite(self._log.files, packed.files, by=self._by, guard=self._keep_lease)

    def _keep_lease(self) -> None:
        if self._lease is not None and not self._lease.keep():
            raise _taken_over(self._log)

    def _commit(self) -> int:
        """Commit what is untouched; who touched a bin meanwhile wins, the others go on."""
        while True:
            if self._lease is not None and not self._lease.is_held():
                raise _taken_over(self._log)
            try:
                return self._put_entry()
            except CommitConflict:
                self._live.catch_up_log()
                lost = [each for each in self._outputs if not self._is_untouched(each[0])]
                if not lost or len(lost) == len(self._outputs) or not self._live.is_current():
                    raise
                self._drop(lost)
                self._conflicts += len(lost)

    def _put_entry(self) -> int:
        inputs = [file for packed, _ in self._outputs for file in packed.files]
        adds = [self._added(*each) for each in self._outputs if each[1] is not None]

        def actions(now_ms: int) -> list[Action]:
            files = self._log.files
            removes = [
                files.tombstone(file, deleted_ms=now_ms, data_change=False) for file in inputs
            ]
            return [*removes, *adds]

        def overtaken() -> bool:
            for packed, _ in self._outputs:
                self._check_untouched(packed)
            return False

        info = CommitInfo(
            operation="OPTIMIZE",
            is_blind_append=False,
            operation_metrics={"numRemovedFiles": len(inputs), "numAddedFiles": len(adds)},
        )
        version = self._log.commit(
            actions,
            info,
            footprint=Footprint(Operation.COMPACTION, frozenset(file.path for file in inputs)),
            overtaken=overtaken,
            on_entry=self._live.note,
            races_max=_RACES_MAX,
        )
        assert version is not None  # noqa: S101 overtaken() never says stop; for mypy
        self._live.note_own(version, actions(0))
        return version

    def _added(self, packed: Bin, written: NewFile | None) -> Add:
        assert written is not None  # noqa: S101 asked by the caller; for mypy
        newest_ms = max(round(file.modified_s * 1000) for file in packed.files)
        add = written.add(modified_ms=newest_ms, data_change=False)
        if not self._by:
            return add
        return msgspec.structs.replace(add, tags={CLUSTERED_BY: mark_of(self._by)})

    def _is_untouched(self, packed: Bin) -> bool:
        return self._live.is_current() and all(self._live.has(file) for file in packed.files)

    def _check_untouched(self, packed: Bin) -> None:
        if not self._is_untouched(packed):
            raise CommitConflict(
                f"A file of {packed.files[0].path} and its neighbours, or the table, was changed "
                f"meanwhile.",
                version=self._log.version,
            )

    def _drop(self, outputs: list[tuple[Bin, NewFile | None]]) -> None:
        self._log.files.remove(written for _, written in outputs if written is not None)
        self._outputs = [each for each in self._outputs if each not in outputs]

    def _result(self, version: int) -> CompactResult:
        bins = [packed for packed, _ in self._outputs]
        written = [file for _, file in self._outputs if file is not None]
        return CompactResult(
            partitions=len({tuple(packed.partition.values()) for packed in bins}),
            files_removed=sum(len(packed.files) for packed in bins),
            files_added=len(written),
            rows=sum(file.content.rows for file in written),
            bytes=sum(packed.bytes for packed in bins),
            version=version,
            conflicts=self._conflicts,
        )


def _taken_over(log: TableLog) -> CommitConflict:
    return CommitConflict(
        f"Another compactor took {log.store.uri} over while this one was held up.",
        version=log.version,
    )


def _sum(one: CompactResult, other: CompactResult) -> CompactResult:
    return CompactResult(
        partitions=one.partitions + other.partitions,
        files_removed=one.files_removed + other.files_removed,
        files_added=one.files_added + other.files_added,
        rows=one.rows + other.rows,
        bytes=one.bytes + other.bytes,
        version=one.version if other.version is None else other.version,
        conflicts=one.conflicts + other.conflicts,
    )
