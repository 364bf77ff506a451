"""Several `neuralake write` on one machine: one writes a table, and when it is gone or paused,
another does. Real processes, real signals."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_project import eventually
from writers_lake import LEASE_S, WritersLake


@contextmanager
def sending(lake: WritersLake) -> Iterator[None]:
    """A sender that sends to every table, until the block ends."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.002):
            for topic in lake.topics:
                lake.send(topic)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def held(lake: WritersLake, topic: str) -> int:
    """The process that holds the topic, when there is one."""
    found = 0

    def look() -> bool:
        nonlocal found
        found = lake.holder(topic)
        return found != 0

    assert eventually(look)
    return found


def goes_on(lake: WritersLake, topic: str) -> bool:
    """Whether rows that are sent from now on come into the table."""
    sent = lake.sent(topic)
    return eventually(lambda: len(lake.committed(topic)) > sent)


def all_once_in_order(lake: WritersLake) -> None:
    for topic in lake.topics:
        assert eventually(lambda: len(lake.committed(topic)) >= lake.sent(topic))  # noqa: B023
        assert lake.committed(topic) == list(range(lake.sent(topic)))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_paused_writer_that_wakes_up_late_doubles_and_loses_nothing(
    tmp_path: Path, seed: int
) -> None:
    """SIGSTOP at any moment, also in the middle of a commit to the table; the other writes;
    SIGCONT."""
    lake, rng = WritersLake(tmp_path, tables=1), random.Random(seed)
    (topic,) = lake.topics
    with lake.writing() as one, lake.writing() as other:
        assert eventually(lambda: lake.holder(topic) != 0)
        with sending(lake):
            for _ in range(3):
                assert goes_on(lake, topic)
                holder = held(lake, topic)
                assert holder in (one.pid, other.pid)
                threading.Event().wait(rng.uniform(0, 0.05))  # The moment of the pause.
                lake.pause(holder)
                assert eventually(lambda: lake.holder(topic) not in (0, holder))  # noqa: B023
                assert goes_on(lake, topic)
                os.kill(holder, signal.SIGCONT)
                assert goes_on(lake, topic)
        all_once_in_order(lake)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_writer_is_followed_by_the_one_that_stands_by(tmp_path: Path, seed: int) -> None:
    lake, rng = WritersLake(tmp_path, tables=1), random.Random(seed)
    (topic,) = lake.topics
    with lake.writing() as one, lake.writing() as other, sending(lake):
        assert goes_on(lake, topic)
        threading.Event().wait(rng.uniform(0, 0.05))  # The moment of death.
        killed = held(lake, topic)
        assert killed in (one.pid, other.pid)
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: lake.holder(topic) not in (0, killed))
        assert goes_on(lake, topic)
    with lake.writing():
        all_once_in_order(lake)


def test_a_writer_that_is_told_to_stop_commits_first_and_leaves_at_once(tmp_path: Path) -> None:
    lake = WritersLake(tmp_path, tables=1)
    (topic,) = lake.topics
    lake.send(topic, 10)
    with lake.writing() as one:
        assert eventually(lambda: lake.holder(topic) == one.pid)
        lake.send(topic, 10)
        one.terminate()
        assert one.wait(timeout=60) == 0

    assert lake.committed(topic) == list(range(20))
    assert lake.holder(topic) == 0
    assert not list(lake.settings.queue_path.parent.glob("*-writer-*"))


def test_tables_are_spread_over_the_writers_and_taken_over(tmp_path: Path) -> None:
    lake = WritersLake(tmp_path, tables=4)
    with lake.writing() as one, sending(lake):
        assert all(goes_on(lake, topic) for topic in lake.topics)
        with lake.writing() as other:
            shares = [one.pid, one.pid, other.pid, other.pid]
            assert eventually(lambda: sorted(map(lake.holder, lake.topics)) == sorted(shares))
            assert all(goes_on(lake, topic) for topic in lake.topics)
        assert eventually(lambda: {*map(lake.holder, lake.topics)} == {one.pid})
        assert all(goes_on(lake, topic) for topic in lake.topics)
    with lake.writing():
        all_once_in_order(lake)


def test_a_table_that_nobody_writes_loses_nothing(tmp_path: Path) -> None:
    """Both are paused for longer than the lease: who wakes first goes on."""
    lake = WritersLake(tmp_path, tables=2)
    with lake.writing() as one, lake.writing() as other, sending(lake):
        assert all(goes_on(lake, topic) for topic in lake.topics)
        for writer in (one, other):
            lake.pause(writer.pid)
        threading.Event().wait(1.5 * LEASE_S)  # Nobody is there to say that it is over.
        for writer in (one, other):
            os.kill(writer.pid, signal.SIGCONT)
        assert all(goes_on(lake, topic) for topic in lake.topics)
    with lake.writing():
        all_once_in_order(lake)
