"""What every queue promises of partitions, on Kafka too: one suite over all three."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka_mock import MockKafka

from neuralake.errors import KeyReused, UsageError
from neuralake.queue import Appended, Envelope, MemoryQueue, Queue, SqliteQueue
from neuralake.queue.kafka import KafkaQueue


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka()


@pytest.fixture(params=["memory", "sqlite", "kafka"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, kafka: MockKafka) -> Iterator[Queue]:
    """A queue with the topic `t`."""
    found: Queue
    if request.param == "memory":
        found = MemoryQueue()
    elif request.param == "sqlite":
        found = SqliteQueue(tmp_path / "queue.sqlite")
    else:
        settings = kafka.settings()
        kafka.make_topic(f"{settings.topic_prefix}t")
        found = KafkaQueue(settings)
    yield found
    found.close()


def everything(queue: Queue, partition: str, *, after: int = 0, page: int = 7) -> list[Envelope]:
    found: list[Envelope] = []
    while envelopes := queue.read(partition, after=after, envelopes_max=page):
        found += envelopes
        after = envelopes[-1].position
    return found


def by_partition(appended: list[Appended]) -> dict[str, list[int]]:
    return {
        name: [one.position for one in appended if one.partition == name]
        for name in {one.partition for one in appended}
    }


def test_what_is_appended_is_in_the_partition_and_at_the_position_that_the_answer_says(
    queue: Queue,
) -> None:
    appended = [queue.append("t", b"%d" % i, i) for i in range(20)]

    for i, answer in enumerate(appended):
        (envelope,) = queue.read(
            answer.partition, after=answer.position - 1, envelopes_max=1, bytes_max=1
        )
        assert (envelope.position, envelope.payload, envelope.rows) == (
            answer.position,
            b"%d" % i,
            i,
        )


def test_a_partition_is_read_in_order_whatever_the_page(queue: Queue) -> None:
    appended = [queue.append("t", b"%d" % i, 1) for i in range(40)]

    for partition, positions in by_partition(appended).items():
        for page in (1, 3, 100):
            found = everything(queue, partition, page=page)
            assert [envelope.position for envelope in found] == positions
            values = [int(envelope.payload) for envelope in found]
            assert values == sorted(values)


def test_submits_of_one_thread_keep_their_order_within_a_partition(queue: Queue) -> None:
    futures = [queue.submit("t", b"%d" % i, 1) for i in range(100)]
    appended = [future.result(30) for future in futures]

    for positions in by_partition(appended).values():
        assert positions == sorted(set(positions))
    assert {one.partition for one in appended} <= set(queue.partitions("t"))


def test_nothing_is_behind_the_end_until_something_is_appended(queue: Queue) -> None:
    last = queue.append("t", b"one", 1, key="k")
    assert queue.read(last.partition, after=last.position) == []
    assert queue.read(last.partition, after=last.position + 10) == []

    # The key's partition is the same for every key here only if there is one: look where it went.
    more = [queue.append("t", b"two", 1) for _ in range(8)]
    expected = [one.position for one in more if one.partition == last.partition]

    found = everything(queue, last.partition, after=last.position)
    assert [envelope.position for envelope in found] == expected


def test_bounds_reach_to_the_newest_position(queue: Queue) -> None:
    appended = [queue.append("t", b"x", 1) for _ in range(12)]

    for partition, positions in by_partition(appended).items():
        bounds = queue.bounds(partition)
        assert (bounds.last, bounds.trimmed, bounds.rows) == (positions[-1], 0, len(positions))


def test_two_readers_of_one_partition_do_not_disturb_each_other(queue: Queue) -> None:
    appended = [queue.append("t", b"%d" % i, 1) for i in range(60)]
    partition, positions = max(by_partition(appended).items(), key=lambda found: len(found[1]))

    def walk(page: int) -> list[int]:
        return [envelope.position for envelope in everything(queue, partition, page=page)]

    with ThreadPoolExecutor(3) as pool:
        walks = list(pool.map(walk, [1, 2, 5]))

    assert walks == [positions] * 3


def test_a_known_key_stores_nothing_and_answers_with_the_first_place(queue: Queue) -> None:
    first = queue.append("t", b"rows", 1, key="k", fingerprint=b"f")
    again = queue.append("t", b"rows", 1, key="k", fingerprint=b"f")

    assert again == Appended(first.position, repeated=True, partition=first.partition)
    assert queue.bounds(first.partition).last == first.position
    with pytest.raises(KeyReused) as raised:
        queue.append("t", b"others", 1, key="k", fingerprint=b"g")
    assert raised.value.position == first.position


def test_a_key_sent_by_many_threads_at_once_is_stored_once(queue: Queue) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: queue.append("t", b"rows", 1, key="k"), range(32), timeout=60)
        )

    assert len({(one.partition, one.position) for one in answers}) == 1
    assert sum(not one.repeated for one in answers) == 1


def test_close_finishes_what_was_submitted_and_refuses_the_rest(queue: Queue) -> None:
    (partition, *_) = queue.partitions("t")
    futures = [queue.submit("t", b"x", 1) for _ in range(50)]
    queue.close()
    queue.close()

    assert all(future.result(0).position > 0 for future in futures)
    for call in (
        lambda: queue.append("t", b"x", 1),
        lambda: queue.read(partition, after=0),
        lambda: queue.bounds(partition),
        lambda: queue.trim(partition, through=1, appended_before_s=0),
        queue.topics,
    ):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_topics_are_those_that_were_appended_to(queue: Queue) -> None:
    queue.append("t", b"x", 1)
    assert queue.topics() == ["t"]


@pytest.mark.parametrize(
    ("payload", "rows", "key"), [(b"", -1, None), ("text", 1, None), (b"", 1, ""), (b"", 1, "a\0")]
)
def test_arguments_that_make_no_envelope_are_refused(
    queue: Queue, payload: bytes, rows: int, key: str | None
) -> None:
    with pytest.raises(UsageError):
        queue.submit("t", payload, rows, key=key)


def test_an_identity_stays(queue: Queue) -> None:
    assert queue.id == queue.id
    assert queue.id != uuid.uuid4().hex
