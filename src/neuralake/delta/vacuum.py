"""Delete files that no version inside the retention needs, and never one that may be needed.

*Lite* goes by the log's tombstones: files that were replaced longer ago than the retention. *Full*
also lists the folder, for what no entry mentions: files of killed writes and of tombstones that
checkpoints have forgotten. A writer may hold such a file and commit it later, so full keeps what is
younger than `orphan_age_hours`, which is longer than a commit of ours waits, and puts a fence: an
entry that says nothing, after the listing and before the log is read again. A commit that was
paused for days came in before the fence, and its files are in the log; or it loses the race
against it, and drops out because its files are too old.

Never touched: `_delta_log`, leases and everything else in folders that begin with `_` or `.`, files
of the change data feed inside the retention, tables inside the table's folder, and every file that
some reading of a path in the log could mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import CommitInfo
from neuralake.delta.commit import TableLog
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.lease import Lease
from neuralake.delta.log import FOLDER, entry_version, read_entry
from neuralake.delta.references import References, is_below_table, is_change_file
from neuralake.delta.snapshot import Snapshot, snapshot
from neuralake.storage import LogStore, StoredFile, as_store

__all__ = ["VacuumResult", "VacuumedFile", "vacuum"]

_PURPOSE = "vacuum"
_RETENTION = "delta.deletedfileretentionduration"
# What a killed process of a local store leaves aside: `.NAME.<32 hex digits>.tmp`.
_LEFTOVER = re.compile(r"(.*/)?\.[^/]+\.[0-9a-f]{32}\.tmp")
_REMOVES = ("path", "deletionTimestamp", "size", "deletionVector")


@dataclass(frozen=True, slots=True)
class VacuumedFile:
    """A file that was deleted, or that would be, and why."""

    name: str
    bytes: int
    age_s: float
    """Since it was replaced; of files that no entry mentions, since it was stored."""
    why: str


@dataclass(frozen=True, slots=True)
class VacuumResult:
    """What one vacuum did, or would do."""

    files: tuple[VacuumedFile, ...] = ()
    is_dry_run: bool = False
    version: int | None = None
    """Of the fence that a full vacuum put; None: it needed none."""
    is_elsewhere: bool = False
    """Another process has the lease of this work, and nothing was done."""

    @property
    def count(self) -> int:
        return len(self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def vacuum(
    at: str | LogStore,
    *,
    retention_hours: float,
    orphan_age_hours: float = 24.0,
    full: bool = False,
    dry_run: bool = False,
    clock: Clock | None = None,
) -> VacuumResult:
    """Delete the files of the table at `at` that no version inside the retention needs.

    Readers of versions older than that lose their files.

    Args:
        retention_hours: how long replaced files are kept. A longer
            `delta.deletedFileRetentionDuration` of the table wins.
        orphan_age_hours: how long a file that no entry mentions is kept; more than any writer
            takes from storing a file to committing it.
        full: also look for such files.
        dry_run: only tell; nothing is deleted or written.

    Raises:
        UnknownName: no table is there.
        UnsupportedFeature: the table needs what we do not implement; nothing was deleted.
        Unavailable: the store failed; what was deleted before stays so.
    """
    store, clock = as_store(at), clock or SystemClock()
    work = _Vacuum(store, clock, retention_hours * 3600, orphan_age_hours * 3600)
    if dry_run:
        found = [*(work.full() if full else work.lite())]
        return VacuumResult(_in_order(found), is_dry_run=True)
    lease = Lease.take(store, _PURPOSE, clock=clock)
    if lease is None:
        return VacuumResult(is_elsewhere=True)
    try:
        found = [*(work.full() if full else work.lite())]
        version = None
        if any(file.why == _ORPHAN for file in found):
            version = work.put_fence()
            # Only what was listed before the fence, and is not in the log up to it.
            found = [file for file in found if not work.needs(file.name)]
        store.remove(file.name for file in found)
    finally:
        lease.release()
    return VacuumResult(_in_order(found), version=version)


_ORPHAN = "no version inside the retention mentions it"


class _Vacuum:
    """One look at a table, at one time."""

    def __init__(
        self, store: LogStore, clock: Clock, retention_s: float, orphan_age_s: float
    ) -> None:
        self._store, self._clock = store, clock
        # Also checks that the table's writers agree on entries as this store does: of others'
        # unfinished entries we would know nothing.
        self._log = TableLog.open(store, clock=clock)
        self._now_s = clock.now_s()
        configuration = self._log.state.metadata.configuration
        if any(name.lower() == _RETENTION for name in configuration):
            retention_s = max(retention_s, self._log.state.properties.deleted_file_retention_s)
        self._retention_s, self._orphan_age_s = retention_s, orphan_age_s
        self._look(self._log.version)

    def needs(self, name: str) -> bool:
        return self._references.needs(name)

    def put_fence(self) -> int:
        """Put an entry that nobody's paused commit can be older than, and read up to it."""
        info = CommitInfo(operation="VACUUM START", is_blind_append=False)
        version = self._log.commit(lambda _now_ms: [], info, footprint=Footprint(Operation.APPEND))
        assert version is not None  # noqa: S101 nothing stops it; for mypy
        self._look(version)
        return version

    def lite(self) -> Iterator[VacuumedFile]:
        """The files of tombstones beyond the retention that are still there."""
        folders: dict[str, set[str]] = {}
        for name, replaced in self._references.replaced.items():
            if not is_below_table(name, self._log.partition_by) or self.needs(name):
                continue
            folder, _, base = name.rpartition("/")
            if folder not in folders:
                folders[folder] = {*self._store.names(folder)}
            if base in folders[folder]:
                yield self._replaced(name, replaced.bytes)

    def full(self) -> Iterator[VacuumedFile]:
        """Every file below the table that may go."""
        listed = [*self._store.files()]
        tables = _inner_tables(listed)
        for file in listed:
            if file.name.startswith(tables) if tables else False:
                continue
            if (why := self._why(file)) is None:
                continue
            if why == _REPLACED:
                yield self._replaced(file.name, file.bytes)
            else:
                yield VacuumedFile(file.name, file.bytes, self._age_s(file), why)

    def _why(self, file: StoredFile) -> str | None:
        """Why a listed file may go; None: it may not."""
        age_s = self._age_s(file)
        if _LEFTOVER.fullmatch(file.name):
            return _ASIDE if age_s > self._orphan_age_s else None
        if is_change_file(file.name):
            kept_s = max(self._retention_s, self._orphan_age_s)
            return _CHANGES if age_s > kept_s and not self.needs(file.name) else None
        if not is_below_table(file.name, self._log.partition_by) or self.needs(file.name):
            return None
        if file.name in self._references.replaced:
            return _REPLACED
        return _ORPHAN if age_s > self._orphan_age_s else None

    def _replaced(self, name: str, size_bytes: int) -> VacuumedFile:
        age_s = self._now_s - self._references.replaced[name].deleted_s
        return VacuumedFile(name, size_bytes, age_s, _REPLACED)

    def _age_s(self, file: StoredFile) -> float:
        return self._now_s - file.modified_s

    def _look(self, at_least: int) -> None:
        """Learn which files the versions inside the retention need."""
        found = snapshot(self._store)
        if found.version < at_least:  # The listing missed the newest entries.
            found = snapshot(self._store, at_least)
        self._references = References(self._store)
        for file in found.files:
            self._references.keep(file.path, file.deletion_vector)
        for batch in found.log.files.removes(_REMOVES):
            self._references.take_removes(
                batch.to_pylist(), now_s=self._now_s, retention_s=self._retention_s
            )
        if self._retention_s > self._log.state.properties.deleted_file_retention_s:
            self._keep_forgotten(found)

    def _keep_forgotten(self, found: Snapshot) -> None:
        """Keep what entries removed that checkpoints may have forgotten the tombstones of.

        Checkpoints keep tombstones as long as the table's property says, and we were asked to keep
        files for longer. The entries are there, as far as versions of that time can be read.
        """
        versions = (entry_version(name) for name in self._store.names(FOLDER))
        for version in sorted((v for v in versions if v is not None), reverse=True):
            entry = read_entry(self._store, version) if version <= found.version else None
            if entry is None:
                continue
            for line in entry.lines:
                remove = line.remove
                if remove is None:
                    continue
                deleted_ms = remove.deletion_timestamp
                if deleted_ms is None or self._now_s - deleted_ms / 1000 <= self._retention_s:
                    self._references.keep(remove.path, remove.deletion_vector)


_REPLACED = "replaced longer ago than the retention"
_CHANGES = "a change file older than the retention"
_ASIDE = "left aside by a write that was killed"


def _inner_tables(files: list[StoredFile]) -> tuple[str, ...]:
    """Folders, with `/`, of tables that lie inside this one."""
    inner = f"/{FOLDER}/"
    return tuple({file.name[: file.name.index(inner) + 1] for file in files if inner in file.name})


def _in_order(files: list[VacuumedFile]) -> tuple[VacuumedFile, ...]:
    return tuple(sorted(files, key=lambda file: file.name))
