"""What every queue promises, whichever way it stores."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from queue_calls import NEVER_S, OpenQueue, fill, payloads

from neuralake.clock import ManualClock
from neuralake.errors import KeyReused, QueueFull, Trimmed, UsageError
from neuralake.queue import Backlog, Bounds, Queue

# Order and positions


def test_what_was_appended_is_read_in_order_with_all_its_facts(
    queue: Queue, clock: ManualClock
) -> None:
    first = queue.append("t", b"one", 1)
    clock.advance(5)
    second = queue.append("t", b"two", 2)

    read = queue.read("t", after=0)

    assert [(e.position, e.payload, e.rows, e.appended_s) for e in read] == [
        (first.position, b"one", 1, 1_000.0),
        (second.position, b"two", 2, 1_005.0),
    ]
    assert 0 < first.position < second.position
    assert not first.repeated


def test_a_read_begins_after_the_given_position(queue: Queue) -> None:
    positions = fill(queue, "t", 3)

    assert payloads(queue, "t", after=positions[0]) == [b"1", b"2"]
    assert payloads(queue, "t", after=positions[2]) == []
    assert payloads(queue, "t", after=positions[2] + 10) == []


def test_topics_do_not_meet(queue: Queue) -> None:
    queue.append("a", b"of a", 1)
    queue.append("b", b"of b", 2)
    queue.append("a", b"of a too", 3)

    queue.trim("b", through=10, appended_before_s=NEVER_S)

    assert payloads(queue, "a") == [b"of a", b"of a too"]
    assert queue.bounds("a").rows == 4
    assert queue.topics() == ["a", "b"]


def test_submits_of_one_thread_keep_their_order(queue: Queue) -> None:
    futures = [queue.submit("t", b"%d" % i, 1) for i in range(200)]

    positions = [future.result().position for future in futures]

    assert positions == sorted(set(positions))
    assert payloads(queue, "t") == [b"%d" % i for i in range(200)]


def test_appends_of_many_threads_are_each_there_once_and_in_each_threads_order(
    queue: Queue,
) -> None:
    def appends(thread: int) -> list[int]:
        return [queue.append("t", b"%d/%d" % (thread, i), 1).position for i in range(25)]

    with ThreadPoolExecutor(8) as pool:
        acknowledged = list(pool.map(appends, range(8)))

    read = {envelope.position: envelope.payload for envelope in queue.read("t", after=0)}
    assert read == {
        position: b"%d/%d" % (thread, i)
        for thread, positions in enumerate(acknowledged)
        for i, position in enumerate(positions)
    }
    assert all(positions == sorted(positions) for positions in acknowledged)


def test_a_reader_never_finds_a_position_below_one_it_saw(queue: Queue) -> None:
    """Following the queue while four threads append gives every envelope, in order, once."""
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(fill, queue, "t", 40) for _ in range(4)]
        seen: list[int] = []
        while len(seen) < 160:
            seen += [e.position for e in queue.read("t", after=seen[-1] if seen else 0)]
    acknowledged = sorted(position for future in done for position in future.result())

    assert seen == acknowledged


# Limits of a read


def test_a_read_stops_before_it_exceeds_its_limits(queue: Queue) -> None:
    for size in (10, 10, 10, 10):
        queue.append("t", b"x" * size, 1)

    assert len(payloads(queue, "t", envelopes_max=3)) == 3
    assert len(payloads(queue, "t", bytes_max=20)) == 2
    assert len(payloads(queue, "t", bytes_max=29)) == 2


def test_an_envelope_larger_than_the_limit_is_still_read(queue: Queue) -> None:
    queue.append("t", b"x" * 100, 1)
    queue.append("t", b"y" * 100, 1)

    assert payloads(queue, "t", bytes_max=0) == [b"x" * 100]


# Idempotency keys


def test_a_known_key_stores_nothing_and_answers_with_the_first_position(queue: Queue) -> None:
    first = queue.append("t", b"first", 1, key="k")
    again = queue.append("t", b"again", 1, key="k")

    assert (again.position, again.repeated) == (first.position, True)
    assert payloads(queue, "t") == [b"first"]


def test_a_key_belongs_to_its_topic(queue: Queue) -> None:
    queue.append("a", b"", 1, key="k")

    assert not queue.append("b", b"", 1, key="k").repeated


def test_a_key_sent_by_many_threads_at_once_is_stored_once(queue: Queue) -> None:
    gate = threading.Barrier(8)

    def append(_: int) -> Any:
        gate.wait()
        return queue.append("t", b"x", 1, key="k")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(append, range(8)))

    assert len({answer.position for answer in answers}) == 1
    assert [answer.repeated for answer in answers].count(False) == 1
    assert queue.bounds("t").rows == 1


def test_a_key_is_known_after_its_envelope_was_trimmed(queue: Queue) -> None:
    first = queue.append("t", b"x", 1, key="k")
    queue.trim("t", through=first.position, appended_before_s=NEVER_S)

    assert queue.append("t", b"x", 1, key="k").repeated


def test_a_key_is_forgotten_when_its_retention_has_passed(
    open_queue: OpenQueue, clock: ManualClock
) -> None:
    queue = open_queue(keys_retention_s=60.0)
    queue.append("t", b"x", 1, key="k")

    clock.advance(60)
    at_the_end = queue.append("t", b"x", 1, key="k")
    clock.advance(1)
    past_the_end = queue.append("t", b"x", 1, key="k")

    assert (at_the_end.repeated, past_the_end.repeated) == (True, False)
    assert queue.append("t", b"x", 1, key="k").position == past_the_end.position


def test_a_refused_append_leaves_no_key_behind(open_queue: OpenQueue) -> None:
    queue = open_queue(bytes_max=10)
    queue.append("t", b"x" * 8, 1)
    with pytest.raises(QueueFull):
        queue.append("t", b"x" * 8, 1, key="k")
    queue.trim("t", through=1, appended_before_s=NEVER_S)

    assert not queue.append("t", b"x" * 8, 1, key="k").repeated


# Trimming


def test_trim_keeps_what_is_young_although_it_was_committed(
    queue: Queue, clock: ManualClock
) -> None:
    fill(queue, "t", 2)
    clock.advance(10)
    last = fill(queue, "t", 2)[-1]

    removed = queue.trim("t", through=last, appended_before_s=1_010.0)

    assert removed == 2
    assert payloads(queue, "t", after=queue.bounds("t").trimmed) == [b"0", b"1"]


def test_trim_keeps_what_is_not_committed_although_it_is_old(queue: Queue) -> None:
    positions = fill(queue, "t", 4)

    assert queue.trim("t", through=positions[1], appended_before_s=NEVER_S) == 2
    assert queue.trim("t", through=positions[1], appended_before_s=NEVER_S) == 0
    assert queue.bounds("t") == Bounds(last=positions[3], trimmed=positions[1], rows=2, bytes=2)


def test_trim_removes_a_prefix_only(queue: Queue, clock: ManualClock) -> None:
    """A clock that went back made the second envelope older than the first: both stay."""
    queue.append("t", b"young", 1)
    clock.advance(-100)
    queue.append("t", b"old", 1)

    assert queue.trim("t", through=10, appended_before_s=950.0) == 0
    assert len(payloads(queue, "t")) == 2


def test_positions_go_on_after_everything_was_trimmed(queue: Queue) -> None:
    last = fill(queue, "t", 3)[-1]
    assert queue.trim("t", through=1_000_000, appended_before_s=NEVER_S) == 3

    bounds = queue.bounds("t")
    position = queue.append("t", b"next", 1).position

    assert bounds == Bounds(last=last, trimmed=last, rows=0, bytes=0)
    assert position > last
    assert payloads(queue, "t", after=last) == [b"next"]


def test_a_read_below_the_trimmed_mark_says_where_to_go_on(queue: Queue) -> None:
    positions = fill(queue, "t", 3)
    queue.trim("t", through=positions[1], appended_before_s=NEVER_S)

    with pytest.raises(Trimmed, match="newer snapshot") as caught:
        queue.read("t", after=positions[0])

    assert caught.value.facts == {"topic": "t", "after": positions[0], "trimmed": positions[1]}
    assert payloads(queue, "t", after=caught.value.trimmed) == [b"2"]


def test_more_than_one_step_is_trimmed_by_one_call(queue: Queue) -> None:
    futures = [queue.submit("t", b"x" * 100, 1) for _ in range(1_500)]
    last = futures[-1].result().position

    assert queue.trim("t", through=last, appended_before_s=NEVER_S) == 1_500
    assert queue.bounds("t") == Bounds(last=last, trimmed=last, rows=0, bytes=0)


def test_a_read_races_trims_without_a_gap(queue: Queue) -> None:
    """A read either says Trimmed or begins with the very next envelope."""
    last = [queue.submit("t", b"%d" % i, 1) for i in range(3_000)][-1].result().position
    with ThreadPoolExecutor(1) as pool:
        trims = pool.submit(
            lambda: [
                queue.trim("t", through=mark, appended_before_s=NEVER_S)
                for mark in range(2, last, 2)
            ]
        )
        while not trims.done():
            after = queue.bounds("t").trimmed
            try:
                read = queue.read("t", after=after, envelopes_max=2)
            except Trimmed:
                continue
            assert read[0].position == after + 1
        trims.result()


# An unknown topic


def test_an_unknown_topic_is_empty(queue: Queue) -> None:
    assert queue.read("no", after=0) == []
    assert queue.bounds("no") == Bounds(last=0, trimmed=0, rows=0, bytes=0)
    assert queue.trim("no", through=10, appended_before_s=NEVER_S) == 0
    assert queue.topics() == []


# Arguments


@pytest.mark.parametrize(
    "topic", ["neural.spikes", "ünïcode.표", "a b/c'\"%_;--", "🧠", " ", "x" * 5_000]
)
def test_any_text_names_a_topic(queue: Queue, topic: str) -> None:
    queue.append(topic, b"x", 1, key=topic)

    assert queue.append(topic, b"x", 1, key=topic).repeated
    assert payloads(queue, topic) == [b"x"]
    assert queue.topics() == [topic]


def test_names_differ_by_case_and_normal_form(queue: Queue) -> None:
    names = ["a", "A", "é", "e\u0301"]
    for name in names:
        queue.append(name, name.encode(), 1)

    assert [payloads(queue, name) for name in names] == [[name.encode()] for name in names]


def test_an_envelope_may_be_empty(queue: Queue) -> None:
    position = queue.append("t", b"", 0).position

    assert [(e.position, e.payload, e.rows) for e in queue.read("t", after=0)] == [
        (position, b"", 0)
    ]


def test_large_and_small_payloads_come_back_as_they_went_in(queue: Queue) -> None:
    sent = [bytes(range(256)) * count for count in (0, 1, 15, 16, 17, 4_000, 20_000)]
    for payload in sent:
        queue.append("t", payload, 1)

    assert payloads(queue, "t") == sent


@pytest.mark.parametrize(
    ("topic", "payload", "rows", "key"),
    [
        ("", b"", 1, None),
        ("a\0b", b"", 1, None),
        ("\ud800", b"", 1, None),
        ("t", b"", -1, None),
        ("t", b"", 2**70, None),
        ("t", "text", 1, None),
        ("t", b"", 1, ""),
    ],
)
def test_arguments_that_make_no_envelope_are_refused_at_once(
    queue: Queue, topic: str, payload: Any, rows: int, key: str | None
) -> None:
    with pytest.raises(UsageError):
        queue.submit(topic, payload, rows, key=key)
    assert queue.topics() == []


def test_a_read_from_before_the_beginning_or_of_nothing_is_refused(queue: Queue) -> None:
    with pytest.raises(UsageError, match="begin at 1"):
        queue.read("t", after=-1)
    with pytest.raises(UsageError, match="at least 1"):
        queue.read("t", after=0, envelopes_max=0)


# Identity and closing


def test_the_identity_is_random_and_constant(queue: Queue, open_queue: OpenQueue) -> None:
    assert len(queue.id) == 32
    assert queue.id == queue.id


def test_close_finishes_what_was_submitted(open_queue: OpenQueue) -> None:
    queue = open_queue()
    futures = [queue.submit("t", b"x", 1) for _ in range(100)]

    queue.close()

    assert all(future.done() and future.result().position for future in futures)


def test_a_closed_queue_refuses_every_call(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.append("t", b"x", 1)
    queue.close()
    queue.close()

    calls: list[Callable[[], Any]] = [
        lambda: queue.submit("t", b"x", 1),
        lambda: queue.append("t", b"x", 1),
        lambda: queue.read("t", after=0),
        lambda: queue.bounds("t"),
        lambda: queue.trim("t", through=1, appended_before_s=NEVER_S),
        queue.topics,
        queue.probe,
    ]
    for call in calls:
        with pytest.raises(UsageError, match="closed"):
            call()


def test_a_known_key_with_another_fingerprint_is_refused_and_stores_nothing(queue: Queue) -> None:
    first = queue.append("t", b"1", 1, key="k", fingerprint=b"1")
    with pytest.raises(KeyReused) as caught:
        queue.append("t", b"2", 1, key="k", fingerprint=b"2")

    assert caught.value.position == first.position
    assert queue.append("t", b"1", 1, key="k", fingerprint=b"1").repeated
    assert queue.append("t", b"3", 1, key="k").repeated
    assert payloads(queue, "t") == [b"1"]


def test_one_key_with_two_fingerprints_at_once_is_stored_once(queue: Queue) -> None:
    futures = [
        queue.submit("t", b"%d" % i, 1, key="k", fingerprint=b"%d" % (i % 2)) for i in range(10)
    ]
    refused = [isinstance(future.exception(), KeyReused) for future in futures]

    assert refused == [False, True] * 5
    assert payloads(queue, "t") == [b"0"]


# What waits


def test_the_backlog_is_what_is_kept_behind_a_position(queue: Queue, clock: ManualClock) -> None:
    assert queue.backlog("t", after=0) == Backlog(rows=0, bytes=0, oldest_s=None)
    queue.append("other", b"not of this topic", 9)
    positions = []
    for i in range(4):
        positions.append(queue.append("t", b"x" * (i + 1), 10 + i).position)
        clock.advance(5)

    assert queue.backlog("t", after=0) == Backlog(rows=46, bytes=10, oldest_s=1_000.0)
    assert queue.backlog("t", after=positions[1]) == Backlog(rows=25, bytes=7, oldest_s=1_010.0)
    assert queue.backlog("t", after=positions[3]) == Backlog(rows=0, bytes=0, oldest_s=None)
    assert queue.backlog("t", after=positions[3] + 5) == Backlog(rows=0, bytes=0, oldest_s=None)

    queue.trim("t", through=positions[2], appended_before_s=NEVER_S)

    assert queue.backlog("t", after=0) == Backlog(rows=13, bytes=4, oldest_s=1_015.0)
