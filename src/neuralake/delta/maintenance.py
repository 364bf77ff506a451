"""Checkpoints and vacuum, by delta-rs.

A checkpoint makes opening quick: it is written beside the log and changes nothing. Vacuum removes
only files that the log says were replaced (delta-rs's "lite" mode), so a writer's files that no
entry mentions yet are safe. Both cost memory in proportion to the table: keep them out of the
writer's process.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec

from neuralake.clock import Clock, SystemClock
from neuralake.delta.log import FOLDER, entry_name
from neuralake.delta.snapshot import open_delta, snapshot
from neuralake.storage import LogStore, as_store, local_path

__all__ = ["checkpoint", "checkpoint_if_due", "vacuum"]

# Delta protocol, "Last Checkpoint File".
LAST_CHECKPOINT = f"{FOLDER}/_last_checkpoint"

# A leftover of a killed commit is never used again; a day is beyond any pause of a living one.
_LEFTOVER_AGE_S = 24 * 3600.0


def checkpoint(at: str | LogStore) -> int:
    """Write a checkpoint of the newest version, durably, and return that version.

    Log entries are kept: removing them is not part of a checkpoint here, whatever the table's
    properties say.
    """
    store = as_store(at)
    table = open_delta(store)
    table.create_checkpoint()
    # delta-rs does not sync. A torn checkpoint after power loss would make the table unreadable.
    folder = local_path(store.uri) / FOLDER
    for path in [*folder.glob(f"{table.version():020d}.checkpoint*"), folder / "_last_checkpoint"]:
        _sync(path)
    _sync(folder)
    return table.version()


def checkpoint_if_due(at: str | LogStore, *, commits: int) -> int | None:
    """Write a checkpoint if `commits` versions came since the last one; its version, or None.

    Costs two file look-ups when none is due.
    """
    store = as_store(at)
    if store.read(entry_name(_checkpointed(store) + commits)) is None:
        return None
    return checkpoint(store)


def _checkpointed(store: LogStore) -> int:
    """Version of the newest checkpoint; 0 if there is none, or if its pointer is torn."""
    try:
        return int(msgspec.json.decode(store.read(LAST_CHECKPOINT) or b"{}").get("version", 0))
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError):
        return 0


def vacuum(
    at: str | LogStore, *, retention_hours: float, dry_run: bool = False, clock: Clock | None = None
) -> list[str]:
    """Remove files that were replaced more than `retention_hours` ago; return their paths.

    Readers of snapshots older than that lose their files. Also removes what killed commits left
    aside more than a day ago. With `dry_run` nothing is removed.
    """
    store = as_store(at)
    table = snapshot(store).delta_table
    hours = math.ceil(retention_hours)
    removed = table.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=False)
    if dry_run:
        return sorted(removed)
    if removed:  # Otherwise delta-rs would still add two entries to the log.
        removed = table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=False)
    _remove_leftovers(store, now_s=(clock or SystemClock()).now_s())
    return sorted(removed)


def _remove_leftovers(store: LogStore, *, now_s: float) -> None:
    folder, old = local_path(store.uri) / FOLDER, []
    for name in store.names(FOLDER):
        if name.startswith(".") and name.endswith(".tmp"):
            try:
                age_s = now_s - (folder / name).stat().st_mtime
            except FileNotFoundError:
                continue  # Its commit came to an end meanwhile.
            if age_s > _LEFTOVER_AGE_S:
                old.append(f"{FOLDER}/{name}")
    store.remove(old)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
