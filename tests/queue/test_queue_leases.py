"""Which of several writers writes a topic: one, and another when that one is gone or paused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuralake.clock import ManualClock
from neuralake.errors import UsageError
from neuralake.queue import Queue, SqliteQueue
from neuralake.queue.sqlite_file import SqliteFile
from neuralake.queue.sqlite_leases import LEASE_S_MAX, TopicLeases

LEASE_S = 50.0  # No look by itself within a test: the clock is turned by hand.
Join = Callable[[], TopicLeases]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


@pytest.fixture
def join(path: Path, clock: ManualClock) -> Iterator[Join]:
    """Makes the leases of one more process."""
    made: list[tuple[TopicLeases, SqliteFile]] = []

    def one() -> TopicLeases:
        file = SqliteFile(path, lock_s_max=10.0)
        made.append((TopicLeases(file, clock=clock, lease_s=LEASE_S), file))
        return made[-1][0]

    yield one
    for leases, file in made:
        leases.close()
        file.close()


def held(leases: TopicLeases, topics: str) -> str:
    return "".join(topic for topic in topics if leases.claim(topic))


def life_files(path: Path) -> list[Path]:
    return list(path.parent.glob("*-writer-*"))


# What every queue promises of claims


def test_a_writer_alone_gets_every_partition_again_and_again(queue: Queue) -> None:
    assert [queue.claim("t") for _ in range(3)] == [queue.partitions("t")] * 3


def test_what_was_released_can_be_claimed_again(queue: Queue) -> None:
    queue.claim("t")
    queue.release("t")
    queue.release("never claimed")

    assert queue.claim("t") == queue.partitions("t")


def test_a_closed_queue_gives_no_claim(queue: Queue) -> None:
    queue.claim("t")
    queue.close()

    with pytest.raises(UsageError, match="closed"):
        queue.claim("t")


# One holder


def test_the_second_stands_by_until_the_first_leaves(join: Join) -> None:
    first, second = join(), join()
    assert (first.claim("t"), second.claim("t")) == (True, False)

    first.close()
    second.look()

    assert second.claim("t")


def test_what_is_released_goes_to_the_other(join: Join) -> None:
    first, second = join(), join()
    assert (held(first, "ab"), held(second, "ab")) == ("ab", "")

    first.release("a")
    first.release("b")
    second.look()

    assert held(second, "ab") == "ab"


def test_who_renews_is_left_alone(join: Join, clock: ManualClock) -> None:
    first, second = join(), join()
    first.claim("t")
    for _ in range(10):
        clock.advance(LEASE_S / 2)
        first.look()
        assert not held(second, "t")
        second.look()

    assert first.claim("t")


def test_who_was_paused_longer_than_the_lease_has_lost_it(join: Join, clock: ManualClock) -> None:
    first, second = join(), join()
    first.claim("t")
    second.claim("t")

    clock.advance(LEASE_S + 1)
    assert not first.claim("t"), "it does not even have to look to know"
    second.look()
    first.look()

    assert (first.claim("t"), second.claim("t")) == (False, True)


def test_who_was_paused_and_missed_by_nobody_goes_on(join: Join, clock: ManualClock) -> None:
    first = join()
    first.claim("t")
    clock.advance(LEASE_S + 1)
    first.look()

    assert first.claim("t")


def test_a_lease_of_before_a_restart_of_the_machine_counts_no_more(
    join: Join, clock: ManualClock
) -> None:
    """The monotonic clock began anew, so what is in the file seems to hold for days."""
    first, second = join(), join()
    first.claim("t")
    clock.advance(-LEASE_S_MAX - LEASE_S)

    assert second.claim("t")


def test_the_file_of_a_process_is_gone_when_it_ends_well(join: Join, path: Path) -> None:
    leases = join()
    leases.claim("t")
    assert len(life_files(path)) == 1
    leases.close()

    assert not life_files(path)


def test_what_killed_processes_left_is_swept(join: Join, path: Path) -> None:
    left = path.with_name(path.name + "-writer-1-dead")
    path.parent.mkdir(exist_ok=True)
    left.touch()
    leases = join()
    leases.claim("t")

    assert not left.exists()
    assert len(life_files(path)) == 1


# Several topics


def test_topics_are_shared_out_evenly_and_then_stay(join: Join) -> None:
    writers = [join(), join(), join()]
    assert [held(writer, "abcdef") for writer in writers] == ["abcdef", "", ""]

    for _ in range(3):
        for writer in writers:
            writer.look()
    shares = [held(writer, "abcdef") for writer in writers]
    for writer in writers:
        writer.look()

    assert sorted("".join(shares)) == list("abcdef")
    assert {len(share) for share in shares} == {2}
    assert [held(writer, "abcdef") for writer in writers] == shares


def test_a_topic_goes_only_to_those_that_want_it(join: Join) -> None:
    all_of_them, one_of_them = join(), join()
    held(all_of_them, "abcd")
    held(one_of_them, "d")
    for _ in range(3):
        all_of_them.look()
        one_of_them.look()

    assert (held(all_of_them, "abcd"), held(one_of_them, "d")) == ("abc", "d")


def test_the_share_of_who_leaves_is_taken_by_the_others(join: Join) -> None:
    first, second = join(), join()
    held(first, "abcd")
    held(second, "abcd")
    first.look()
    second.look()
    assert (held(first, "abcd"), held(second, "abcd")) == ("cd", "ab")

    second.close()
    first.look()

    assert held(first, "abcd") == "abcd"


# The fence


def test_a_former_holder_trims_nothing(path: Path, clock: ManualClock) -> None:
    first = SqliteQueue(path, clock=clock, lease_s=LEASE_S)
    second = SqliteQueue(path, clock=clock, lease_s=LEASE_S)
    position = first.append("t", b"x", 1).position
    assert (first.claim("t"), second.claim("t")) == (["t"], [])

    clock.advance(LEASE_S + 1)
    second.release("t")  # A new claim looks at once.
    assert second.claim("t") == ["t"]

    assert first.trim("t", through=position, appended_before_s=float("inf")) == 0
    assert second.trim("t", through=position, appended_before_s=float("inf")) == 1
    first.close()
    second.close()


def test_who_never_claimed_may_trim(path: Path) -> None:
    """As a person's tool does, and tests."""
    first, other = SqliteQueue(path), SqliteQueue(path)
    position = first.append("t", b"x", 1).position
    first.claim("t")

    assert other.trim("t", through=position, appended_before_s=float("inf")) == 1
    first.close()
    other.close()


# A file that takes nothing


def test_when_leases_cannot_be_written_the_holder_goes_on_and_the_other_waits(
    join: Join, path: Path, clock: ManualClock
) -> None:
    first, second = join(), join()
    assert (first.claim("t"), second.claim("t")) == (True, False)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON writers BEGIN SELECT raise(FAIL, 'no'); END"
        )
    connection.close()

    clock.advance(LEASE_S / 2)
    first.look()
    second.look()
    assert (first.claim("t"), second.claim("t")) == (True, False)

    clock.advance(LEASE_S - 1)
    first.look()

    assert first.claim("t")
