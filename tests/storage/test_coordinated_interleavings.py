"""Several processes commit through one lock table, one request at a time, in any order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lock_world import LockWorld, entry
from stepping import Crash, take_turns

from neuralake.storage import AlreadyThere, CoordinatedStore

COMMITS = 3


def writer(
    world: LockWorld, name: str, acknowledged: list[bytes], steps_max: int
) -> Callable[[Callable[[str], None]], None]:
    """Appends entries behind what is there, as a table's handle does; may crash on the way."""

    def run(step: Callable[[str], None]) -> None:
        rest = iter(range(steps_max))

        def step_or_crash(what: str) -> None:
            step(what)
            if next(rest, None) is None:
                raise Crash

        store = world.store(step_or_crash)
        version = 0
        for number in range(COMMITS):
            data = f"{name}{number}".encode()
            version = append(store, version, data)
            acknowledged.append(data)

    return run


def append(store: CoordinatedStore, version: int, data: bytes) -> int:
    """Put `data` at the first free version from `version` on; the version behind it."""
    while True:
        while (found := store.read(entry(version))) is not None:
            version += 1
            if found == data:
                return version
        try:
            store.put_if_absent(entry(version), data)
        except AlreadyThere:
            continue
        return version + 1


@settings(
    max_examples=examples(37),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(
    order=st.lists(st.integers(0, 2), max_size=120),
    crashes=st.tuples(*[st.one_of(st.just(10_000), st.integers(0, 40))] * 3),
)
def test_in_any_order_and_with_any_crash_each_acknowledged_entry_is_there_once(
    order: list[int], crashes: tuple[int, int, int]
) -> None:
    """And no visible entry ever changes: the world's files fail the test then."""
    world = LockWorld()
    acknowledged: list[bytes] = []
    turns = iter(order)
    take_turns(
        [
            writer(world, name, acknowledged, steps_max)
            for name, steps_max in zip("abc", crashes, strict=True)
        ],
        lambda going: next(turns, 0) % going,
    )

    world.store().recover()
    log = world.log()
    assert world.unfinished() == []
    assert [*sorted(log)] == [*range(len(log))]
    entries = [*log.values()]
    assert len({*entries}) == len(entries)
    assert {*acknowledged} <= {*entries}


@settings(max_examples=examples(20), deadline=None, derandomize=True)
@given(order=st.lists(st.integers(0, 1), max_size=60), moment=st.integers(0, 40))
def test_readers_finish_commits_beside_a_writer_and_never_see_a_gap(
    order: list[int], moment: int
) -> None:
    world = LockWorld()
    acknowledged: list[bytes] = []
    seen: list[list[int]] = []

    def reader(step: Callable[[str], None]) -> None:
        store = world.store(step)
        for _ in range(4):
            store.recover()
            seen.append(sorted(world.log()))

    turns = iter(order)
    take_turns(
        [writer(world, "a", acknowledged, moment), reader], lambda going: next(turns, 1) % going
    )

    assert all(versions == [*range(len(versions))] for versions in seen)
    assert all(len(before) <= len(after) for before, after in pairwise(seen))
