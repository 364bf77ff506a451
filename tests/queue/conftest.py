"""Both queues behind one fixture, so that one suite holds them to the same promises."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neuralake.clock import ManualClock
from neuralake.queue import Amount, MemoryQueue, Queue, QueueLimits, SqliteQueue


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture(params=["memory", "sqlite"])
def open_queue(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[Callable[..., Queue]]:
    """Opens a queue with the test's clock and the given options; all are closed at the end.

    `bytes_max`: a limit of the whole queue.
    """
    opened: list[Queue] = []

    def open_one(*, bytes_max: int | None = None, **options: Any) -> Queue:
        if bytes_max is not None:
            options["limits"] = QueueLimits(whole=Amount(bytes_max, 10**6))
        if request.param == "memory":
            opened.append(MemoryQueue(clock=clock, **options))
        else:
            opened.append(SqliteQueue(tmp_path / "queue.sqlite", clock=clock, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue: Callable[..., Queue]) -> Queue:
    return open_queue()
