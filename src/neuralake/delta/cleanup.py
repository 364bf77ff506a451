"""Remove log entries and checkpoints that are older than the table's log retention.

Section "Metadata Cleanup" of the Delta protocol. Everything from one checkpoint on stays: the
newest that was committed before the retention began. So every version inside the retention can
still be opened, and nothing is removed before that checkpoint was read to its last row. The oldest
go first; a clean-up that is killed leaves a log that reads, and the next one goes on. Whatever is
in doubt stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import decode_entry
from neuralake.delta.checkpoint import point_at
from neuralake.delta.checkpoint_names import (
    SIDECARS,
    CheckpointName,
    checkpoint_version,
    complete_checkpoints,
)
from neuralake.delta.checkpoint_read import UnreadableCheckpoint, read_checkpoint
from neuralake.delta.coordination import check_coordination
from neuralake.delta.head import STALE_S
from neuralake.delta.log import FOLDER, entry_name, entry_version
from neuralake.delta.protocol import TableState
from neuralake.delta.replay import replay
from neuralake.errors import CommitConflict, NeedsAttention
from neuralake.storage import LogStore, StoredFile, as_store

__all__ = ["STREAM_PROPERTIES", "CleanupResult", "cleanup"]

STREAM_PROPERTIES = {"delta.logRetentionDuration": "interval 1 days"}
"""What tables begin with that are committed to all the time. One commit a second for a week is
604,800 entries: we open that in 40 ms, but delta-rs and all who read through it list the folder at
each opening, 550 ms. A day of it is 170 ms."""


# A handle trusts what it knows for an hour, and clocks differ: nothing younger than this goes,
# however short the table's retention is.
_RETENTION_S_MIN = 2 * STALE_S
# A leftover of a killed commit is never used again; a day is beyond any pause of a living one.
_LEFTOVER_S = 24 * 3600.0
# A killed process can leave as many files half removed as one call takes.
_CHUNK = 1000
_BESIDE = re.compile(r"(\d{20})(?:\.crc|\.\d{20}\.compacted\.json)")
_ASIDE = re.compile(r"\.[^/]+\.tmp")


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What one clean-up removed, or would: names relative to the table, in the order they go."""

    checkpoint: int | None = None
    """The oldest version that can be opened from now on; None: no entry may go."""
    entries: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    """Checkpoints with their sidecars."""
    leftovers: tuple[str, ...] = ()
    """What killed processes left aside."""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.checkpoints, *self.entries, *self.leftovers)


def cleanup(
    at: str | LogStore, *, dry_run: bool = False, clock: Clock | None = None
) -> CleanupResult:
    """Remove what the table's `delta.logRetentionDuration` (30 days) no longer covers.

    With `delta.enableExpiredLogCleanup=false` only leftovers go. Costs a listing of the log folder,
    and reading one checkpoint if there is something to remove.

    Raises:
        UnknownName: no table is there.
        UnsupportedFeature: the table needs what we do not implement.
        NeedsAttention: the log is damaged; nothing was removed.
    """
    store, now_s = as_store(at), (clock or SystemClock()).now_s()
    log = replay(store)
    check_coordination(log.metadata.configuration, store)
    properties = TableState.of(log.protocol, log.metadata).properties
    files = sorted(store.files(FOLDER), key=lambda file: file.name)
    found = CleanupResult(leftovers=_leftovers(store, files, now_s=now_s))
    if properties.expired_log_cleanup:
        before_s = now_s - max(properties.log_retention_s, _RETENTION_S_MIN)
        base = _base(store, files, before_s=before_s)
        if base is not None:
            if not dry_run:
                # First of all: readers are sent to what stays.
                point_at(store, base, log.metadata)
            found = _expired(store, files, base, found, now_s=now_s)
    if not dry_run:
        names = found.names
        for start in range(0, len(names), _CHUNK):
            store.remove(names[start : start + _CHUNK])
    return found


def _base(
    store: LogStore, files: Sequence[StoredFile], *, before_s: float
) -> CheckpointName | None:
    """The newest whole checkpoint of a version that was committed before `before_s`."""
    stored_s = {file.name: file.modified_s for file in files}
    for name in complete_checkpoints(_in_log(files)):
        modified_s = stored_s.get(entry_name(name.version))
        if modified_s is None or modified_s >= before_s:
            continue
        if _committed_s(store, name.version) < before_s and _is_whole(store, name):
            return name
    return None


def _committed_s(store: LogStore, version: int) -> float:
    """When `version` was committed, as its writer says: files may have been copied since."""
    data = store.read(entry_name(version))
    if data is None:
        return float("inf")
    times = [0.0]
    for line in decode_entry(data, version=version, uri=store.uri):
        if (info := line.commit_info) is not None:
            times += [(info.timestamp or 0) / 1000, (info.in_commit_timestamp or 0) / 1000]
    return max(times)


def _is_whole(store: LogStore, name: CheckpointName) -> bool:
    """Whether every row of a checkpoint reads, in all its parts and sidecars."""
    try:
        found = read_checkpoint(store, name)
        return all(
            len(rows.field("path")) == len(rows)
            for kind in ("add", "remove")
            for rows in found.rows(kind)
        )
    except (UnreadableCheckpoint, CommitConflict, NeedsAttention):
        return False


def _expired(
    store: LogStore,
    files: Sequence[StoredFile],
    base: CheckpointName,
    found: CleanupResult,
    *,
    now_s: float,
) -> CleanupResult:
    names = _in_log(files)
    # Checkpoints first: nobody should start from one and then miss its entries.
    checkpoints = [
        name
        for name in names
        if (version := checkpoint_version(name)) is not None and version < base.version
    ]
    entries = [name for name in names if _is_before(name, base.version)]
    return CleanupResult(
        base.version,
        _paths(entries),
        (*_paths(checkpoints), *_sidecars(store, files, base, now_s=now_s)),
        found.leftovers,
    )


def _is_before(name: str, version: int) -> bool:
    """Whether a file is an entry before `version`, or comes with one."""
    found = entry_version(name)
    if found is None and (beside := _BESIDE.fullmatch(name)) is not None:
        found = int(beside[1])
    return found is not None and found < version


def _sidecars(
    store: LogStore, files: Sequence[StoredFile], base: CheckpointName, *, now_s: float
) -> tuple[str, ...]:
    """Sidecars, a day old, of no checkpoint from `base` on."""
    old = [
        file.name
        for file in files
        if file.name.startswith(f"{SIDECARS}/") and now_s - file.modified_s > _LEFTOVER_S
    ]
    if not old:
        return ()
    kept: set[str] = set()
    for name in complete_checkpoints(_in_log(files)):
        if name.version < base.version:
            continue
        try:
            kept.update(read_checkpoint(store, name).sidecars)
        except UnreadableCheckpoint:
            return ()  # Which of them it needs is not known.
    return tuple(name for name in old if name.rsplit("/", 1)[-1] not in kept)


def _leftovers(store: LogStore, files: Sequence[StoredFile], *, now_s: float) -> tuple[str, ...]:
    """What killed processes left in the log folder, by any of the ways to commit."""
    aside = [
        file.name
        for file in files
        if _ASIDE.fullmatch(file.name.rsplit("/", 1)[-1]) and now_s - file.modified_s > _LEFTOVER_S
    ]
    of_locks = getattr(store, "leftovers", None)  # A store with a lock table knows its own.
    return (*aside, *(of_locks(older_than_s=7 * _LEFTOVER_S) if of_locks is not None else ()))


def _in_log(files: Iterable[StoredFile]) -> list[str]:
    """Names right in the log folder, in order."""
    names = (file.name[len(FOLDER) + 1 :] for file in files)
    return [name for name in names if "/" not in name]


def _paths(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{FOLDER}/{name}" for name in names)
