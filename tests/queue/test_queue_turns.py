"""Processes take turns at the queue's file, and a paused one keeps nobody for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from neuralake.queue.turns import Turns


@contextmanager
def turns(path: Path, count: int) -> Iterator[list[Turns]]:
    with ExitStack() as close:
        made = [Turns(path) for _ in range(count)]
        for each in made:
            close.callback(each.close)
        yield made


def test_turns_go_round(tmp_path: Path) -> None:
    """Whoever has had one lets the others have theirs before the next."""
    order: list[int] = []
    gate = threading.Barrier(3)

    def work(number: int, mine: Turns) -> None:
        gate.wait()
        for _ in range(50):
            with mine.turn():
                order.append(number)
                threading.Event().wait(0.002)  # The work, longer than a look.

    with turns(tmp_path / "q", 3) as made, ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3), made))

    assert len(order) == 150
    shares = [order[:100].count(number) for number in range(3)]
    assert min(shares) > 3, "nobody works on while others wait"


def test_who_does_not_leave_is_passed_by(tmp_path: Path) -> None:
    with turns(tmp_path / "q", 2) as (paused, other), paused.turn(), other.turn():
        pass
    with turns(tmp_path / "q", 1) as (again,), again.turn():
        pass


def test_without_room_for_its_files_there_are_no_turns(tmp_path: Path) -> None:
    with turns(tmp_path / "no" / "q", 1) as (mine,), mine.turn():
        pass
