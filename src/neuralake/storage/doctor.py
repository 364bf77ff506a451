"""What the lock table says of one table, compared with the table's files, and how to mend it.

Looks under every spelling of the table's address, because writers with two spellings do not see one
another and lose commits. Looking changes nothing; mending does what any reader may do, and gives a
commit up only when it is told to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from neuralake.errors import NeedsAttention
from neuralake.storage.coordinated import CoordinatedStore
from neuralake.storage.locks import LockEntry

__all__ = ["EntryState", "Finding", "examine", "give_up", "mend", "spellings"]

_LOG = "_delta_log"
_VERSIONED = re.compile(rf"{_LOG}/(\d{{20}})\.[^/]+")


class EntryState(Enum):
    """How far a commit came; the value is for people."""

    DONE = "done"
    UNPUBLISHED = "taken, but its entry is not in the log yet: a reader or writer puts it there"
    UNCOMPLETED = "in the log, but not marked complete: a reader or writer marks it"
    LOST = "taken, but neither its temporary file nor its entry is there: nobody can finish it"
    HOLLOW = "marked complete, but its entry is not there: left by a deleted table, or lost"


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of the lock table, and what became of it."""

    entry: LockEntry
    state: EntryState
    is_elsewhere: bool
    """It is under another spelling of the table's address than ours: its writer does not see our
    commits, nor we its, and whoever is second loses."""

    @property
    def version(self) -> int:
        return int(self.entry.file_name[:20])


def spellings(uri: str) -> list[str]:
    """The keys under which writers of the table at `uri` may have taken versions."""
    place = uri.partition("://")[2].strip("/")
    return [f"{scheme}://{place}{end}" for scheme in ("s3", "s3a", "s3n") for end in ("", "/")]


def examine(store: CoordinatedStore, *, done_too: bool = False) -> Iterator[Finding]:
    """What is unfinished, lost or under another spelling; with `done_too` everything.

    The newest version of a spelling first. One listing of the log and one query for each spelling.
    """
    there = {file.name for file in store.files(_LOG)}
    versions = (int(found[1]) for name in there if (found := _VERSIONED.fullmatch(name)))
    tip = max(versions, default=-1)
    for path in dict.fromkeys([store.table_path, *spellings(store.uri)]):
        is_elsewhere = path != store.table_path
        for entry in store.locks.newest(path):
            finding = Finding(entry, _state(entry, there, tip), is_elsewhere)
            if done_too or is_elsewhere or finding.state is not EntryState.DONE:
                yield finding


def _state(entry: LockEntry, there: set[str], tip: int) -> EntryState:
    is_put = f"{_LOG}/{entry.file_name}" in there
    if not entry.complete:
        if is_put:
            return EntryState.UNCOMPLETED
        has_file = f"{_LOG}/{entry.temp_path}" in there
        return EntryState.UNPUBLISHED if has_file else EntryState.LOST
    # Behind a newer entry or checkpoint it was cleaned up, as old entries are.
    is_cleaned = tip >= int(entry.file_name[:20])
    return EntryState.DONE if is_put or is_cleaned else EntryState.HOLLOW


def mend(store: CoordinatedStore, finding: Finding) -> bool:
    """Finish the commit; whether there was something to finish.

    Raises:
        NeedsAttention: it is lost or hollow. `give_up` removes it.
        Unavailable: a server does not answer.
    """
    if finding.state is EntryState.DONE:
        return False
    if finding.state is EntryState.HOLLOW:
        raise NeedsAttention(
            f"Version {finding.version} of {finding.entry.table_path} cannot be finished: "
            f"{finding.state.value}.",
            table_path=finding.entry.table_path,
            name=finding.entry.file_name,
        )
    store.repair(finding.entry)
    return True


def give_up(store: CoordinatedStore, finding: Finding) -> bool:
    """Remove a lost or hollow entry, so that its version can be committed; whether it was there.

    Whatever that commit was to add is not in the table, and never was visible.

    Raises:
        NeedsAttention: its file or its entry is there after all: mend it instead.
    """
    entry = finding.entry
    is_there = store.stamp(f"{_LOG}/{entry.file_name}") is not None
    if is_there or (not entry.complete and store.stamp(f"{_LOG}/{entry.temp_path}") is not None):
        raise NeedsAttention(
            f"Version {finding.version} of {entry.table_path} can be finished; look again before "
            f"you give it up.",
            table_path=entry.table_path,
            name=entry.file_name,
        )
    return store.locks.remove(entry)
