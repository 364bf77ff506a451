"""Producers and their sequences: the next is stored, the newest are known, the rest refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.clock import ManualClock
from neuralake.errors import Conflict, KeyReused, OutOfOrder, QueueFull, UnknownProducer, UsageError
from neuralake.queue import MemoryQueue, ProducerSequence, Queue, SqliteQueue
from neuralake.queue.producers import SEQUENCES_KEPT

OpenQueue = Callable[..., Queue]
P = ProducerSequence


def send(queue: Queue, sequence: int, *, producer: str = "p", topic: str = "t") -> tuple[int, bool]:
    payload = b"%s %d" % (producer.encode(), sequence)
    found = queue.append(
        topic, payload, 1, producer=P(producer, sequence), fingerprint=payload[-8:]
    )
    return found.position, found.repeated


def payloads(queue: Queue, topic: str = "t") -> list[bytes]:
    return [envelope.payload for envelope in queue.read(topic, after=0)]


def test_the_newest_sequences_answer_with_their_first_positions(queue: Queue) -> None:
    first = [send(queue, sequence) for sequence in range(1, 9)]

    again = [send(queue, sequence) for sequence in range(8 - SEQUENCES_KEPT + 1, 9)]

    assert again == [(position, True) for position, _ in first[-SEQUENCES_KEPT:]]
    assert len(payloads(queue)) == 8


def test_one_that_is_too_old_to_be_compared_is_told_what_comes_next(queue: Queue) -> None:
    for sequence in range(1, SEQUENCES_KEPT + 2):
        send(queue, sequence)

    with pytest.raises(OutOfOrder, match="too long ago") as caught:
        send(queue, 1)

    assert (caught.value.expected, caught.value.sequence) == (SEQUENCES_KEPT + 2, 1)


def test_a_gap_stores_nothing(queue: Queue) -> None:
    send(queue, 1)

    with pytest.raises(OutOfOrder, match="2 comes next") as caught:
        send(queue, 3)

    assert caught.value.expected == 2
    assert payloads(queue) == [b"p 1"]
    assert not send(queue, 2)[1]


def test_a_producer_that_is_not_known_begins_at_1(queue: Queue) -> None:
    with pytest.raises(UnknownProducer) as caught:
        send(queue, 2)

    assert (caught.value.expected, caught.value.queue) == (1, queue.id)
    assert queue.topics() == []
    assert not send(queue, 1)[1]


def test_producers_and_topics_count_for_themselves(queue: Queue) -> None:
    answers = [
        send(queue, 1),
        send(queue, 1, producer="q"),
        send(queue, 1, topic="u"),
        send(queue, 2),
    ]

    assert not any(repeated for _, repeated in answers)


def test_a_sequence_with_other_rows_is_refused(queue: Queue) -> None:
    send(queue, 1)

    with pytest.raises(KeyReused, match="share an identity"):
        queue.append("t", b"other", 1, producer=P("p", 1), fingerprint=b"other")

    assert payloads(queue) == [b"p 1"]


def test_submits_at_once_are_stored_up_to_the_one_that_is_missing(queue: Queue) -> None:
    futures = [queue.submit("t", b"%d" % n, 1, producer=P("p", n)) for n in (1, 2, 2, 4, 3, 4)]

    kinds = [type(future.exception()) for future in futures]

    assert kinds == [type(None)] * 3 + [OutOfOrder] + [type(None)] * 2
    assert futures[2].result().repeated
    assert payloads(queue) == [b"1", b"2", b"3", b"4"]


def test_after_one_that_did_not_fit_the_next_is_out_of_order(open_queue: OpenQueue) -> None:
    queue = open_queue(bytes_max=10)
    send(queue, 1)
    futures = [
        queue.submit("t", b"x" * size, 1, producer=P("p", n)) for n, size in ((2, 8), (3, 1))
    ]

    assert [type(future.exception()) for future in futures] == [QueueFull, OutOfOrder]


def test_a_sequence_is_known_after_its_envelope_was_trimmed(queue: Queue) -> None:
    position, _ = send(queue, 1)
    queue.trim("t", through=position, appended_before_s=float("inf"))

    assert send(queue, 1) == (position, True)


def test_a_quiet_producer_is_forgotten_when_its_retention_has_passed(
    open_queue: OpenQueue, clock: ManualClock
) -> None:
    queue = open_queue(producers_retention_s=60.0)
    for sequence in (1, 2, 3):
        send(queue, sequence)
    clock.advance(60)
    assert send(queue, 3)[1]
    clock.advance(1)

    with pytest.raises(UnknownProducer):
        send(queue, 4)
    assert not send(queue, 1)[1]
    assert not send(queue, 2)[1]
    with pytest.raises(OutOfOrder):
        send(queue, 4)


def test_a_producer_that_goes_on_is_not_forgotten(
    open_queue: OpenQueue, clock: ManualClock
) -> None:
    queue = open_queue(producers_retention_s=60.0)
    for sequence in range(1, 10):
        send(queue, sequence)
        send(queue, 1, producer=f"passing {sequence}")
        clock.advance(50)

    assert send(queue, 9)[1]


def test_of_too_many_producers_the_quietest_are_forgotten(tmp_path: Path) -> None:
    queue = MemoryQueue(producers_max=3)
    for name in ("a", "b", "c", "d"):
        send(queue, 1, producer=name)

    assert not send(queue, 1, producer="a")[1], "forgotten"
    assert send(queue, 1, producer="d")[1]


def test_the_file_keeps_a_bounded_number_of_producers(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path / "q.sqlite", producers_max=20)
    for number in range(9_000):
        queue.submit("t", b"", 0, producer=P(f"p{number}", 1))
    assert not send(queue, 1, producer="last")[1]

    assert send(queue, 1, producer="last")[1]
    with pytest.raises(UnknownProducer):
        send(queue, 2, producer="p1")
    queue.close()


@pytest.mark.parametrize("sequence", [0, -1, 2**53 + 1])
def test_a_sequence_that_nobody_counts_to_is_refused(queue: Queue, sequence: int) -> None:
    with pytest.raises(UsageError, match="from 1"):
        queue.submit("t", b"", 0, producer=P("p", sequence))


def test_an_append_has_a_key_or_a_sequence(queue: Queue) -> None:
    with pytest.raises(UsageError, match="not both"):
        queue.submit("t", b"", 0, key="k", producer=P("p", 1))
    with pytest.raises(UsageError, match="producer"):
        queue.submit("t", b"", 0, producer=P("", 1))


CALLS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.sampled_from([0.0, 1.0, 40.0])),
    max_size=40,
)


@given(calls=CALLS)
@settings(deadline=None, max_examples=examples(20))
def test_both_queues_do_the_same_and_hold_each_number_once(
    calls: list[tuple[str, int, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock, path = ManualClock(1_000.0), tmp_path_factory.mktemp("queue") / "q.sqlite"
    memory = MemoryQueue(clock=clock, producers_retention_s=60.0)
    file = SqliteQueue(path, clock=clock, producers_retention_s=60.0)

    def outcome(queue: Queue, producer: str, sequence: int) -> object:
        try:
            return send(queue, sequence, producer=producer)
        except Conflict as error:
            return type(error), error.expected

    for producer, sequence, pause_s in calls:
        assert outcome(memory, producer, sequence) == outcome(file, producer, sequence)
        clock.advance(pause_s)
    found = payloads(file)
    file.close()

    assert found == payloads(memory)
    if all(pause_s <= 1 for _, _, pause_s in calls):
        for producer in "ab":
            mine = [text for text in found if text.startswith(producer.encode())]
            assert mine == [b"%s %d" % (producer.encode(), n) for n in range(1, len(mine) + 1)]
