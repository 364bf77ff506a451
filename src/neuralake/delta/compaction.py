"""Rewrite runs of small files of a partition into fewer large ones, changing no row.

The commit removes the small files and adds the large ones with `dataChange=false`. It is made only
if every removed file is still live, the schema is the same, and as many rows go out as came in;
otherwise the work is dropped: compaction gives way to everyone. An append meanwhile is no conflict.
Rows keep their order within a partition: only neighbours in commit order are joined, and the new
file takes the place of the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import Action, CommitInfo, Remove
from neuralake.delta.commit import TableLog
from neuralake.delta.files import NewFile, store_name
from neuralake.delta.log import Entry
from neuralake.delta.snapshot import DataFile, Snapshot, open_delta
from neuralake.errors import CommitConflict, NeedsAttention, SchemaMismatch, Unavailable, UsageError
from neuralake.schema import conform
from neuralake.storage import LogStore, as_store

__all__ = ["CompactResult", "compact_once", "plan"]

# A file beyond this share of the target waits until the newer ones weigh as much as it does. So a
# row is rewritten about log2(16) + 1 times on its way to a full file, not at every round.
_ALWAYS_SHARE = 16
# Lost races against appenders alone; each costs one read and one put.
_RACES_MAX = 100


@dataclass(frozen=True, slots=True)
class CompactResult:
    """What one round did. `conflicts`: partitions whose work was dropped; try again later."""

    partitions: int = 0
    files_removed: int = 0
    files_added: int = 0
    rows: int = 0
    version: int | None = None
    """The newest version that this round made; None: nothing was rewritten."""
    conflicts: int = 0


def compact_once(
    at: str | LogStore,
    *,
    target_bytes: int,
    files_min: int,
    clock: Clock | None = None,
) -> CompactResult:
    """Rewrite what `plan` finds in the table at `at`, one commit per partition.

    Raises:
        UnknownName: no table is there.
        UnsupportedFeature: the table needs what we do not implement.
        NeedsAttention: a live file is missing, or has other rows than the log says.
        SchemaMismatch: another engine's file has columns that are not exactly the table's (INT96
            timestamps, say). Both are raised when all other partitions are done.
        Unavailable: the store failed; partitions committed before stay so.
    """
    store, clock = as_store(at), clock or SystemClock()
    found = Snapshot(open_delta(store))
    bins = plan(found.files, target_bytes=target_bytes, files_min=files_min)
    if not bins:
        return CompactResult()
    compaction = _Compaction(TableLog(store, found.delta_table, clock=clock))
    result, failure = CompactResult(), None
    for _, group in groupby(bins, key=lambda files: files[0].partition):
        try:
            result = compaction.rewrite(list(group), result)
        except CommitConflict:
            result = replace(result, conflicts=result.conflicts + 1)
        except (NeedsAttention, SchemaMismatch) as error:
            # Told at the end: a partition that cannot be rewritten must not starve the others.
            failure = failure or error
    if failure is not None:
        raise failure
    return result


def plan(files: Sequence[DataFile], *, target_bytes: int, files_min: int) -> list[list[DataFile]]:
    """Groups of files to become one file each; those of a partition follow one another.

    Each has at least two files, neighbours in commit order, of at most `target_bytes` in all, and
    comes from a run of at least `files_min` small files (under half of the target).
    """
    partitions: dict[tuple[str | None, ...], list[DataFile]] = {}
    for file in files:
        partitions.setdefault(tuple(file.partition.values()), []).append(file)
    return [
        packed
        for members in partitions.values()
        for run in _runs(members, target_bytes)
        if len(run) >= files_min
        for packed in _pack(run, target_bytes)
        if len(packed) > 1
    ]


def _runs(files: list[DataFile], target_bytes: int) -> list[list[DataFile]]:
    """Neighbours worth joining, oldest run first; looks from the newest file back."""
    runs: list[list[DataFile]] = [[]]
    total = 0
    for file in reversed(files):
        if file.bytes * 2 > target_bytes:
            runs.append([])
            total = 0
            continue
        if file.bytes > max(target_bytes // _ALWAYS_SHARE, total) and runs[-1]:
            runs.append([])
            total = 0
        runs[-1].append(file)
        total += file.bytes
    return [run[::-1] for run in reversed(runs)]


def _pack(run: list[DataFile], target_bytes: int) -> Iterator[list[DataFile]]:
    packed: list[DataFile] = []
    total = 0
    for file in run:
        if packed and total + file.bytes > target_bytes:
            yield packed
            packed, total = [], 0
        packed.append(file)
        total += file.bytes
    yield packed


class _Compaction:
    """One round over a snapshot: knows which of its files others have removed since."""

    def __init__(self, log: TableLog) -> None:
        self._log = log
        self._state = log.state
        self._seen = log.version
        self._removed: set[str] = set()

    def rewrite(self, bins: list[list[DataFile]], result: CompactResult) -> CompactResult:
        """Rewrite the bins of one partition in one commit.

        Raises:
            CommitConflict: somebody removed one of the files, or changed the schema.
        """
        inputs = [file for files in bins for file in files]
        self._check(inputs)
        outputs = self._write(bins)
        try:
            version = self._commit(inputs, outputs)
        except (UsageError, CommitConflict, Unavailable):
            # Only where the entry certainly does not exist; otherwise it needs its files.
            self._forget(outputs)
            raise
        return CompactResult(
            partitions=result.partitions + 1,
            files_removed=result.files_removed + len(inputs),
            files_added=result.files_added + len(outputs),
            rows=result.rows + sum(written.content.rows for written, _ in outputs),
            version=version,
            conflicts=result.conflicts,
        )

    def _write(self, bins: list[list[DataFile]]) -> list[tuple[NewFile, int]]:
        """Store one file per bin; each with the commit time of the newest file in it."""
        outputs: list[tuple[NewFile, int]] = []
        try:
            for files in bins:
                written = self._log.files.write_one(files[0].partition, self._batches(files))
                outputs.append((written, max(_modified_ms(file) for file in files)))
        except BaseException:
            self._forget(outputs)
            raise
        return outputs

    def _forget(self, outputs: list[tuple[NewFile, int]]) -> None:
        self._log.store.remove(written.name for written, _ in outputs)

    def _commit(self, inputs: list[DataFile], outputs: list[tuple[NewFile, int]]) -> int:
        def actions(now_ms: int) -> list[Action]:
            removes = [
                Remove(
                    path=file.path,
                    deletion_timestamp=now_ms,
                    data_change=False,
                    extended_file_metadata=True,
                    partition_values=file.partition,
                    size=file.bytes,
                )
                for file in inputs
            ]
            adds = [
                written.add(modified_ms=modified_ms, data_change=False)
                for written, modified_ms in outputs
            ]
            return [*removes, *adds]

        def overtaken() -> bool:
            self._check(inputs)
            return False

        info = CommitInfo(
            operation="OPTIMIZE",
            is_blind_append=False,
            operation_metrics={"numRemovedFiles": len(inputs), "numAddedFiles": len(outputs)},
        )
        version = self._log.commit(
            actions, info, overtaken=overtaken, on_entry=self._note, races_max=_RACES_MAX
        )
        assert version is not None  # noqa: S101 overtaken() never says stop; for mypy
        self._seen = version
        return version

    def _note(self, entry: Entry) -> None:
        self._seen = entry.version
        self._removed.update(line.remove.path for line in entry.lines if line.remove is not None)

    def _check(self, inputs: list[DataFile]) -> None:
        if self._log.state is not self._state:
            raise CommitConflict("The table's schema changed meanwhile.", version=self._log.version)
        if self._log.version != self._seen:
            # The handle was opened anew after a long pause: we did not see all entries.
            raise CommitConflict("The plan is too old.", version=self._log.version)
        for file in inputs:
            if file.path in self._removed:
                raise CommitConflict(
                    f"File {file.path} is no longer part of the table.", version=self._log.version
                )

    def _batches(self, files: list[DataFile]) -> Iterator[pa.Table]:
        """The rows of `files` in order, with the table's present columns."""
        for file in files:
            data = self._log.store.read(store_name(file.path))
            if data is None:
                self._log.catch_up(self._note)
                self._check([file])
                raise NeedsAttention(
                    f"File {file.path} of {self._log.store.uri} is part of the table, but missing.",
                    path=file.path,
                )
            rows = pq.ParquetFile(pa.BufferReader(data)).read()
            if file.rows is not None and rows.num_rows != file.rows:
                raise NeedsAttention(
                    f"File {file.path} of {self._log.store.uri} has {rows.num_rows} rows, but the "
                    f"log says {file.rows}.",
                    path=file.path,
                )
            yield conform(rows, self._log.files.schema, name=file.path)


def _modified_ms(file: DataFile) -> int:
    return round(file.modified_s * 1000)
