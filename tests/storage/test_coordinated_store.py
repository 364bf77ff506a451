"""A commit through a lock table, stopped anywhere: another process finishes it or it never was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lock_world import TABLE_PATH, LockWorld, entry
from stepping import Crash, crash_at

from neuralake.errors import NeedsAttention
from neuralake.storage import (
    AlreadyThere,
    CoordinatedStore,
    LockEntry,
    MemoryStore,
    OutcomeUnknown,
)

OURS = b"ours"
NAME = entry(1)


def commit(world: LockWorld, step: Callable[[str], None] = lambda _what: None) -> None:
    world.store(step).put_if_absent(NAME, OURS)


def steps() -> list[str]:
    """The steps of an undisturbed commit by a process that has seen nothing of the log."""
    world = LockWorld()
    world.begin(0)
    seen: list[str] = []
    commit(world, seen.append)
    return seen


STEPS = steps()
MOMENTS = [pytest.param(i, id=f"{i}-{what.replace(' ', '-')}") for i, what in enumerate(STEPS)]
# From the moment in which the item is there, the commit takes place.
DECIDED = STEPS.index("after MemoryLocks.put_if_absent")


def read(world: LockWorld) -> None:
    """A reader asks for the next entry."""
    world.store().read(NAME)


def recover(world: LockWorld) -> None:
    """A reader lists the log."""
    world.store().recover()


def write_same(world: LockWorld) -> None:
    """A writer wants the same version."""
    try:
        world.store().put_if_absent(NAME, b"theirs")
    except AlreadyThere:
        assert world.files.read(NAME) == OURS


def write_next(world: LockWorld) -> None:
    """A writer that read version 1, if it was there, commits the version behind it."""
    store = world.store()
    found = store.read(NAME)
    store.put_if_absent(NAME if found is None else entry(2), b"theirs")


OTHERS = [read, recover, write_same, write_next]


def test_an_undisturbed_commit_asks_as_little_as_promised() -> None:
    """Beside its data: two requests to S3 more than a plain conditional PUT, two to DynamoDB."""
    world = LockWorld()
    world.begin(0)
    seen: list[str] = []
    store = world.store(seen.append)
    store.read(entry(0))
    seen.clear()

    store.put_if_absent(NAME, OURS)
    assert [what for what in seen if what.startswith("before")] == [
        "before WatchedStore.put",
        "before MemoryLocks.put_if_absent",
        "before WatchedStore.stamp",
        "before WatchedStore.put_if_absent",
        "before MemoryLocks.complete",
    ]


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_commit_that_crashed_is_finished_by_anybody_or_never_was(
    moment: int, others: Callable[[LockWorld], None]
) -> None:
    world = LockWorld()
    world.begin(0)
    with pytest.raises(Crash):
        commit(world, crash_at(moment))

    others(world)

    # An item whose entry can be read hinders nobody; it is completed with the next listing.
    assert all(
        f"_delta_log/{item.file_name}" in map(entry, world.log()) for item in world.unfinished()
    )
    recover(world)
    assert world.unfinished() == []
    if moment >= DECIDED:
        assert world.log()[1] == OURS
    else:
        assert world.log().get(1) in (None, b"theirs")
    world.begin(max(world.log()) + 1)
    assert [*world.log()] == [*range(len(world.log()))]


def finished(world: LockWorld) -> None:
    """Others finish our commit, if it is to be."""
    recover(world)
    read(world)


def overtaken(world: LockWorld) -> None:
    """Others finish our commit, or take the version, and go on; a day later the items are gone."""
    write_next(world)
    world.begin(max(world.log()) + 1)
    world.a_day_passes()


def copied_by_a_rival(world: LockWorld) -> None:
    """deltalake repairs: it copies over N.json, completes the item, removes the file."""
    for item in world.unfinished():
        aside = f"_delta_log/{item.temp_path}"
        if (data := world.files.read(aside)) is not None:
            world.files.put({f"_delta_log/{item.file_name}": data})
        world.locks.complete(item, expire_s=int(world.clock.now_s()) + 60)
        world.files.remove([aside])


def put_outside_the_lock(world: LockWorld) -> None:
    """A writer that knows nothing of the lock table puts version 1 where nothing is."""
    if world.files.stamp(NAME) is None:
        world.files.put_if_absent(NAME, b"outside")


def crashed_again(world: LockWorld) -> None:
    """Another process begins to repair, and crashes after each of its steps."""
    for moment in range(12):
        try:
            world.store(crash_at(moment)).recover()
        except Crash:
            continue


@pytest.mark.parametrize(
    "others",
    [finished, write_same, overtaken, copied_by_a_rival, put_outside_the_lock, crashed_again],
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_paused_commit_that_wakes_up_late_tells_the_truth_and_changes_nothing(
    moment: int, others: Callable[[LockWorld], None]
) -> None:
    """WatchedStore fails if a visible entry changes."""
    world = LockWorld()
    world.begin(0)
    passed = iter(range(len(STEPS)))

    def pause(_what: str) -> None:
        if next(passed) == moment:
            others(world)

    try:
        # A rival may meanwhile have made some of the steps unnecessary: count on from there.
        passed = iter([*range(len(STEPS)), *[-1] * 50])
        commit(world, pause)
        done = True
    except AlreadyThere:
        done = False

    assert done == (world.log()[1] == OURS)
    world.store().recover()
    assert world.unfinished() == []
    world.begin(max(world.log()) + 1)
    assert [*sorted(world.log())] == [*range(len(world.log()))]


def test_a_holder_that_finds_another_entry_gives_way_and_leaves_nothing() -> None:
    """Its item expired with the commit that was there; the file goes, the item is closed."""
    world = LockWorld()
    world.begin(0, 1)
    world.a_day_passes()
    with pytest.raises(AlreadyThere):
        commit(world)

    assert world.log()[1] == b"entry 1"
    [item] = [item for item in world.locks.newest(TABLE_PATH) if item.file_name == NAME[11:]]
    assert item.complete
    assert world.files.read(f"_delta_log/{item.temp_path}") is None


def left_by(world: LockWorld, temp_path: str, data: bytes | None) -> LockEntry:
    """What another engine left: its item, and its temporary file with `data`."""
    item = LockEntry(TABLE_PATH, NAME[11:], temp_path)
    if data is not None:
        world.files.put({f"_delta_log/{temp_path}": data})
    world.locks.put_if_absent(item)
    return item


@pytest.mark.parametrize(
    "temp_path", [".tmp/00000000000000000001.json.6f1", "_commit_6f1.json.tmp"]
)
def test_what_spark_and_deltalake_left_is_finished(temp_path: str) -> None:
    world = LockWorld()
    world.begin(0)
    left_by(world, temp_path, b"theirs")

    assert world.store().read(NAME) == b"theirs"
    assert world.unfinished() == []
    [item, _] = world.locks.newest(TABLE_PATH)
    assert item.expire_s == int(world.clock.now_s()) + 24 * 3600


def test_a_commit_whose_file_was_moved_is_only_completed() -> None:
    """deltalake removes its file after the copy, and may crash before it completes the item."""
    world = LockWorld()
    world.begin(0)
    left_by(world, "_commit_1.json.tmp", None)
    world.files.put({NAME: b"theirs"})

    world.store().recover()
    assert world.unfinished() == []
    assert world.log()[1] == b"theirs"


@pytest.mark.parametrize("then", ["nothing", "another commit", "completed"])
def test_a_commit_that_its_owner_gave_up_while_it_was_repaired_is_no_loss(then: str) -> None:
    """deltalake gives up by removing its item and then its file; the version is free again."""
    world = LockWorld()
    world.begin(0)
    item = left_by(world, "_commit_1.json.tmp", b"theirs")

    def give_up(what: str) -> None:
        if what == "before WatchedStore.read" and world.locks.remove(item):
            world.files.remove([f"_delta_log/{item.temp_path}"])
            if then == "another commit":
                world.locks.put_if_absent(replace(item, temp_path=".tmp/other"))
            elif then == "completed":
                world.locks.put_if_absent(replace(item, complete=True, expire_s=2_000_000_000))

    store = world.store()
    paused = world.store(give_up)
    paused.repair(item)

    assert 1 not in world.log()
    if then == "nothing":
        store.put_if_absent(NAME, OURS)
        assert world.log()[1] == OURS


def test_a_version_is_only_begun_when_the_one_before_it_can_be_read() -> None:
    """Also by a handle that knows it from elsewhere: else a crash would leave two unfinished."""
    world = LockWorld()
    world.begin(0)
    left_by(world, ".tmp/one", b"theirs")

    world.store().put_if_absent(entry(2), OURS)
    assert world.log() == {0: b"entry 0", 1: b"theirs", 2: OURS}
    assert world.unfinished() == []


def test_a_commit_without_file_and_entry_needs_a_person_who_can_give_it_up() -> None:
    world = LockWorld()
    world.begin(0)
    item = left_by(world, "_commit_1.json.tmp", None)
    for ask in (recover, read, commit):
        with pytest.raises(NeedsAttention, match="storage doctor") as caught:
            ask(world)
        assert caught.value.table_path == TABLE_PATH

    assert world.locks.remove(item)
    commit(world)
    assert world.log()[1] == OURS


def test_entries_of_a_deleted_table_are_told_apart_from_a_lost_race() -> None:
    world = LockWorld()
    world.begin(0)
    world.files.remove([entry(0)])
    with pytest.raises(NeedsAttention, match="was deleted"):
        world.begin(0)

    world.a_day_passes()
    world.begin(0)


def test_an_item_that_points_outside_the_log_is_refused() -> None:
    for temp_path in ["../data.parquet", "/etc/x", "", "a//b", "x/./y"]:
        world = LockWorld()
        world.begin(0)
        left_by(world, "x", b"theirs")
        world.locks.remove(world.unfinished()[0])
        world.locks.put_if_absent(LockEntry(TABLE_PATH, NAME[11:], temp_path))
        with pytest.raises(NeedsAttention, match="no Delta writer made"):
            world.store().recover()


def test_every_unfinished_commit_is_recovered_oldest_first() -> None:
    """Not only the newest, which is all that Spark and deltalake look at."""
    world = LockWorld()
    world.begin(0)
    for version in (1, 2, 3):
        item = LockEntry(TABLE_PATH, entry(version)[11:], f".tmp/{version}")
        world.files.put({f"_delta_log/.tmp/{version}": b"%d" % version})
        world.locks.put_if_absent(item)

    world.store().recover()
    assert world.log() == {0: b"entry 0", 1: b"1", 2: b"2", 3: b"3"}
    assert world.unfinished() == []


class LosingStore(MemoryStore):
    """Puts N.json, and does not say so; or does not even put it."""

    def __init__(self, *, puts: bool) -> None:
        super().__init__()
        self._puts = puts

    def put_if_absent(self, name: str, data: bytes | memoryview) -> None:
        if self._puts:
            super().put_if_absent(name, data)
        raise OutcomeUnknown("The answer was lost.", name=name)


def test_a_lost_answer_to_the_entrys_put_is_looked_up() -> None:
    world = LockWorld()
    files = LosingStore(puts=True)
    CoordinatedStore(files, world.locks).put_if_absent(entry(0), OURS)

    assert files.read(entry(0)) == OURS


def test_a_commit_that_is_taken_but_not_put_is_never_called_failed() -> None:
    """Whoever finds the item finishes it, so its files must stay."""
    world = LockWorld()
    store = CoordinatedStore(LosingStore(puts=False), world.locks, table_path=TABLE_PATH)
    with pytest.raises(OutcomeUnknown, match="next reader"):
        store.put_if_absent(entry(0), OURS)

    assert [item.file_name for item in world.unfinished()] == [entry(0)[11:]]


def test_two_spellings_are_two_keys_and_a_store_can_take_either() -> None:
    world = LockWorld()
    world.begin(0)
    item = LockEntry("s3a://bucket/table", NAME[11:], ".tmp/spark")
    world.files.put({"_delta_log/.tmp/spark": b"theirs"})
    world.locks.put_if_absent(item)

    assert world.store().read(NAME) is None
    spelled = world.store().spelled("s3a://bucket/table")
    assert spelled.table_path == "s3a://bucket/table"
    assert spelled.read(NAME) == b"theirs"


def test_an_item_far_behind_is_completed_when_leftovers_are_looked_for() -> None:
    """Listings look at the newest items only; unfinished ones would stay for ever."""
    world = LockWorld()
    world.begin(0)
    item = LockEntry(TABLE_PATH, NAME[11:], ".tmp/one")
    world.files.put({"_delta_log/.tmp/one": OURS, NAME: OURS})
    world.locks.put_if_absent(item)
    world.begin(*range(2, 60))

    world.store().leftovers(older_than_s=60)
    assert world.unfinished() == []


def test_temporary_files_are_leftovers_unless_an_unfinished_commit_needs_them() -> None:
    world = LockWorld()
    world.begin(0, 1)
    world.files.put({"_delta_log/_commit_9.json.tmp": b"", "_delta_log/_last_checkpoint": b""})
    lost = LockEntry(TABLE_PATH, entry(3)[11:], ".tmp/lost")
    world.locks.put_if_absent(lost)
    world.clock.advance(3600)
    world.files.put({"_delta_log/.tmp/young": b"three"})

    found = world.store().leftovers(older_than_s=60)
    assert "_delta_log/_commit_9.json.tmp" in found
    assert len([name for name in found if name.startswith("_delta_log/.tmp/0000")]) == 2
    assert "_delta_log/.tmp/young" not in found
    assert len(found) == 3
    # What needs a person is not forgotten, and does not stand in the way.
    assert world.unfinished() == [lost]
