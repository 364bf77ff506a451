"""What every queue keeps at most, in all and of each topic, whichever way it stores."""

import pytest
from queue_calls import NEVER_S, OpenQueue

from neuralake.errors import QueueFull, TooLarge
from neuralake.queue import Amount, QueueLimits


def test_a_full_queue_stores_nothing_and_takes_more_after_a_trim(open_queue: OpenQueue) -> None:
    queue = open_queue(bytes_max=100)
    first = queue.append("a", b"x" * 60, 1).position

    with pytest.raises(QueueFull, match="writer") as caught:
        queue.append("b", b"x" * 41, 1)

    assert caught.value.retry_after_s > 0
    assert queue.topics() == ["a"]
    assert queue.append("b", b"x" * 40, 1).position > 0
    queue.trim("a", through=first, appended_before_s=NEVER_S)
    assert queue.append("b", b"x" * 60, 1).position > 0


def test_one_submit_that_does_not_fit_fails_alone(open_queue: OpenQueue) -> None:
    queue = open_queue(bytes_max=100)
    futures = [queue.submit("t", b"x" * size, 1) for size in (40, 80, 40, 40, 20)]

    errors = [type(future.exception()) for future in futures]

    assert errors == [type(None), QueueFull, type(None), QueueFull, type(None)]
    assert queue.bounds("t").bytes == 100


def test_a_payload_that_will_never_fit_is_the_callers_fault(open_queue: OpenQueue) -> None:
    queue = open_queue(bytes_max=100)

    with pytest.raises(TooLarge) as caught:
        queue.append("t", b"x" * 101, 1)

    assert (caught.value.limit, caught.value.found) == (100, 101)


LIMITS = QueueLimits(
    whole=Amount(100, 50),
    topic=Amount(60, 20),
    topics={"small": Amount(10, 2), "wide": Amount(80, 40)},
)


@pytest.mark.parametrize(
    ("topic", "unit", "limit", "each"),
    [
        ("t", "bytes", 60, (20, 1)),
        ("t", "rows", 20, (1, 5)),
        ("small", "bytes", 10, (5, 0)),
        ("small", "rows", 2, (1, 1)),
    ],
)
def test_a_full_topic_is_told_and_leaves_room_for_others(
    open_queue: OpenQueue, topic: str, unit: str, limit: int, each: tuple[int, int]
) -> None:
    queue = open_queue(limits=LIMITS)
    size, rows = each
    while queue.bounds(topic).bytes + size <= LIMITS.of(topic).bytes and (
        queue.bounds(topic).rows + rows <= LIMITS.of(topic).rows
    ):
        last = queue.append(topic, b"x" * size, rows).position

    with pytest.raises(QueueFull, match=f"queue_{unit}_max") as caught:
        queue.append(topic, b"x" * size, rows)

    full = caught.value
    assert (full.topic, full.unit, full.limit, full.kept) == (topic, unit, limit, limit)
    assert topic in str(full)
    assert queue.append("other", b"x" * 20, 10).position
    queue.trim(topic, through=last, appended_before_s=NEVER_S)
    assert queue.append(topic, b"x" * size, rows).position > last


def test_topics_that_have_room_are_still_bounded_together(open_queue: OpenQueue) -> None:
    queue = open_queue(limits=LIMITS)
    queue.append("t", b"", 20)
    queue.append("wide", b"", 30)

    with pytest.raises(QueueFull, match="all tables") as caught:
        queue.append("third", b"", 1)

    assert (caught.value.unit, caught.value.limit) == ("rows", 50)


@pytest.mark.parametrize(
    ("topic", "size", "rows", "unit", "limit"),
    [("t", 61, 1, "bytes", 60), ("t", 1, 21, "rows", 20), ("small", 1, 3, "rows", 2)],
)
def test_what_a_topic_will_never_hold_is_the_callers_fault(
    open_queue: OpenQueue, topic: str, size: int, rows: int, unit: str, limit: int
) -> None:
    queue = open_queue(limits=LIMITS)
    queue.append(topic, b"x", 1)

    with pytest.raises(TooLarge) as caught:
        queue.append(topic, b"x" * size, rows)

    assert (caught.value.unit, caught.value.limit) == (unit, limit)


def test_a_full_queue_is_well(open_queue: OpenQueue) -> None:
    queue = open_queue(bytes_max=10)
    queue.append("t", b"x" * 10, 1)

    queue.probe()

    assert queue.topics() == ["t"]
    assert queue.bounds("t").last == 1
