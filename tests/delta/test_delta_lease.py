"""One holder at a time, taken over when silent for too long, and told so before it commits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralake.clock import ManualClock
from neuralake.delta.lease import Lease
from neuralake.errors import Unavailable
from neuralake.storage import AlreadyThere, Bytes, MemoryStore, OutcomeUnknown

FOLDER = "_neuralake/lease/compaction"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


def take(store: MemoryStore, clock: ManualClock) -> Lease | None:
    return Lease.take(store, "compaction", clock=clock, length_s=60)


def taken(store: MemoryStore, clock: ManualClock) -> Lease:
    lease = take(store, clock)
    assert lease is not None
    return lease


def test_a_lease_has_one_holder_until_it_is_given_back(
    store: MemoryStore, clock: ManualClock
) -> None:
    first = taken(store, clock)
    assert take(store, clock) is None

    first.release()
    assert not first.is_held()
    assert taken(store, clock).number > first.number


def test_leases_of_two_purposes_do_not_meet(store: MemoryStore, clock: ManualClock) -> None:
    assert Lease.take(store, "compaction", clock=clock) is not None
    assert Lease.take(store, "vacuum", clock=clock) is not None


def test_a_silent_holder_is_taken_over_and_finds_out(
    store: MemoryStore, clock: ManualClock
) -> None:
    sleeper = taken(store, clock)
    clock.advance(61)
    other = taken(store, clock)

    assert not sleeper.keep()
    assert not sleeper.is_held()
    assert other.is_held()
    sleeper.release()
    assert other.is_held(), "who lost it gives nothing back"


def test_a_theft_is_noticed_even_if_the_thief_is_long_done(
    store: MemoryStore, clock: ManualClock
) -> None:
    """The numbers after the sleeper's were removed again: its own next one is free."""
    sleeper = taken(store, clock)
    clock.advance(61)
    for _ in range(3):
        thief = taken(store, clock)
        clock.advance(30)
        assert thief.keep()
        thief.release()

    assert not sleeper.is_held()
    assert len(store.names(FOLDER)) == 1


def test_who_keeps_it_in_time_keeps_it(store: MemoryStore, clock: ManualClock) -> None:
    lease = taken(store, clock)
    for _ in range(20):
        clock.advance(30)
        assert lease.keep()
        assert take(store, clock) is None
    assert lease.is_held()
    assert len(store.names(FOLDER)) == 1, "old numbers are removed on the way"


def test_a_holder_that_overslept_goes_on_if_nobody_wanted_it(
    store: MemoryStore, clock: ManualClock
) -> None:
    lease = taken(store, clock)
    clock.advance(1000)
    assert lease.is_held()
    assert take(store, clock) is None


def test_keeping_costs_nothing_before_a_third_of_the_time(
    store: MemoryStore, clock: ManualClock
) -> None:
    lease = taken(store, clock)
    number = lease.number
    clock.advance(19)
    assert lease.keep()
    assert lease.number == number
    clock.advance(1)
    assert lease.keep()
    assert lease.number == number + 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"holder": "x"}', b'{"holder":"x","until_s":1e99}']
)
def test_a_file_that_makes_no_sense_holds_nobody_up(
    store: MemoryStore, clock: ManualClock, content: bytes
) -> None:
    store.put({f"{FOLDER}/{7:020d}.json": content})
    assert taken(store, clock).number == 8


class MeddlingStore(MemoryStore):
    """Lets somebody else act once, right before a put."""

    meddle: Callable[[], object] | None = None

    def put_if_absent(self, name: str, data: Bytes) -> None:
        if (meddle := self.meddle) is not None:
            self.meddle = None
            meddle()
        super().put_if_absent(name, data)


def test_of_two_that_take_at_once_one_has_it(clock: ManualClock) -> None:
    store = MeddlingStore(clock=clock)
    quick: list[Lease | None] = []
    store.meddle = lambda: quick.append(take(store, clock))

    assert take(store, clock) is None
    assert quick[0] is not None
    assert quick[0].is_held()


def test_who_slept_before_its_put_does_not_take_a_number_that_was_used_up(
    clock: ManualClock,
) -> None:
    store = MeddlingStore(clock=clock)
    held: list[Lease] = []

    def others() -> None:
        held.append(taken(store, clock))
        clock.advance(30)
        assert held[0].keep()  # Removes number 1, which the sleeper is about to put.

    store.meddle = others
    assert take(store, clock) is None
    assert held[0].is_held()


class DoubtfulStore(MemoryStore):
    """Stores, and then says that it does not know."""

    def put_if_absent(self, name: str, data: Bytes) -> None:
        super().put_if_absent(name, data)
        raise OutcomeUnknown("No answer.", name=name)


class RepeatingStore(MemoryStore):
    """Its client repeats a put by itself, and meets what it stored."""

    def put_if_absent(self, name: str, data: Bytes) -> None:
        super().put_if_absent(name, data)
        raise AlreadyThere("It is there.", name=name)


@pytest.mark.parametrize("kind", [DoubtfulStore, RepeatingStore])
def test_a_put_of_unknown_outcome_is_looked_up(clock: ManualClock, kind: type[MemoryStore]) -> None:
    store = kind(clock=clock)
    lease = taken(store, clock)
    assert lease.is_held()
    lease.release()
    assert take(store, clock) is not None


def test_giving_back_never_fails(clock: ManualClock) -> None:
    """It happens on the way out of something else; the lease ends by itself."""

    class FailingStore(MemoryStore):
        is_down = False

        def put_if_absent(self, name: str, data: Bytes) -> None:
            if self.is_down:
                raise Unavailable("No connection.")
            super().put_if_absent(name, data)

    store = FailingStore(clock=clock)
    lease = taken(store, clock)
    store.is_down = True
    lease.release()
    store.is_down = False

    assert take(store, clock) is None
    clock.advance(61)
    assert take(store, clock) is not None


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "keep", "ask", "release", "wait"]),
        st.integers(0, 2),
        st.sampled_from([1, 21, 61]),
    ),
    max_size=60,
)


@given(steps=steps)
def test_whatever_happens_one_at_most_is_told_that_it_holds_the_lease(
    steps: list[tuple[str, int, int]],
) -> None:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    leases: dict[int, Lease] = {}
    for step, who, seconds in steps:
        if step == "wait":
            clock.advance(seconds)
        elif step == "take":
            if (lease := take(store, clock)) is not None:
                leases[who] = lease
        elif who in leases:
            {"keep": leases[who].keep, "ask": leases[who].is_held, "release": leases[who].release}[
                step
            ]()
        assert sum(lease.is_held() for lease in leases.values()) <= 1
        assert len(store.names(FOLDER)) <= 1
