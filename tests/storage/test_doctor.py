"""What is found of a table's commits in the lock table, and that mending it does no harm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lock_world import TABLE_PATH, LockWorld, entry

from neuralake.errors import NeedsAttention
from neuralake.storage import LockEntry
from neuralake.storage.doctor import EntryState, Finding, examine, give_up, mend, spellings


class CrashedWorld(LockWorld):
    """With what crashes leave."""

    def left(self, version: int, state: EntryState, path: str = TABLE_PATH) -> LockEntry:
        """What a crash left of a commit of `version`."""
        item = LockEntry(path, entry(version)[11:], f".tmp/{version}")
        if state is not EntryState.LOST:
            self.files.put({f"_delta_log/.tmp/{version}": b"left"})
        if state is EntryState.UNCOMPLETED:
            self.files.put({entry(version): b"left"})
        if state is EntryState.HOLLOW:
            item = replace(item, complete=True, expire_s=2_000_000_000)
        self.locks.put_if_absent(item)
        return item


def found(world: CrashedWorld) -> dict[int, EntryState]:
    return {finding.version: finding.state for finding in examine(world.store())}


@pytest.mark.parametrize(
    "state",
    [EntryState.UNPUBLISHED, EntryState.UNCOMPLETED, EntryState.LOST, EntryState.HOLLOW],
)
def test_each_state_that_a_crash_leaves_is_told_and_mended_or_given_up(state: EntryState) -> None:
    world = CrashedWorld()
    world.begin(0, 1)
    world.left(2, state)
    [finding] = examine(world.store())
    assert (finding.version, finding.state, finding.is_elsewhere) == (2, state, False)

    if state in (EntryState.LOST, EntryState.HOLLOW):
        with pytest.raises(NeedsAttention):
            mend(world.store(), finding)
        assert give_up(world.store(), finding)
        assert not give_up(world.store(), finding)
    else:
        with pytest.raises(NeedsAttention, match="can be finished"):
            give_up(world.store(), finding)
        assert mend(world.store(), finding)
        assert world.log()[2] == b"left"
    assert found(world) == {}
    world.begin(max(world.log()) + 1)


def test_what_is_done_is_only_shown_when_it_is_asked_for() -> None:
    world = CrashedWorld()
    world.begin(0, 1)
    everything = [*examine(world.store(), done_too=True)]

    assert found(world) == {}
    assert [(f.version, f.state) for f in everything] == [
        (1, EntryState.DONE),
        (0, EntryState.DONE),
    ]
    assert not mend(world.store(), everything[0])


def test_entries_that_log_clean_up_removed_are_done() -> None:
    world = CrashedWorld()
    world.begin(0, 1, 2)
    world.files.put({"_delta_log/00000000000000000002.checkpoint.parquet": b""})
    world.files.remove([entry(0), entry(1), entry(2)])

    assert found(world) == {}


@pytest.mark.parametrize("path", ["s3a://table", "s3n://table/", "s3://table/"])
def test_writers_that_spell_the_address_otherwise_are_shown(path: str) -> None:
    """Their commits and ours do not see one another: here theirs of version 1 is too late."""
    world = CrashedWorld()
    world.begin(0, 1)
    world.left(1, EntryState.UNPUBLISHED, path)
    world.left(2, EntryState.UNPUBLISHED, path)
    assert path in spellings("memory://table")

    findings = [*examine(world.store())]
    assert [(f.version, f.entry.table_path) for f in findings] == [(2, path), (1, path)]
    assert all(finding.is_elsewhere for finding in findings)
    for finding in reversed(findings):
        mend(world.store(), finding)
    assert world.log() == {0: b"entry 0", 1: b"entry 1", 2: b"left"}


def test_a_finding_that_was_mended_meanwhile_is_not_given_up() -> None:
    world = CrashedWorld()
    world.begin(0)
    item = world.left(1, EntryState.LOST)
    finding = Finding(item, EntryState.LOST, is_elsewhere=False)
    world.files.put({entry(1): b"restored"})

    with pytest.raises(NeedsAttention, match="look again"):
        give_up(world.store(), finding)
    assert mend(world.store(), finding)
    assert found(world) == {}
