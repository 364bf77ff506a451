"""From a real Kafka into a table: whatever is killed or paused, each row once and in order."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka_lake import KafkaLake, event, produce
from kafka_server import KafkaServer, kafka_server
from service_children import Child

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, create_table
from neuralake.errors import NeedsAttention, Trimmed, UnknownName
from neuralake.queue.kafka import KafkaQueue
from neuralake.settings import KafkaSettings
from neuralake.writer import FlushLimits, TopicWriter
from neuralake.writer.topic_writer import start_position

HERE = Path(__file__).parents[1] / "support"
WAIT_S_MAX = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[KafkaServer]:
    with kafka_server() as running:
        yield running


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S_MAX
    while not holds():
        assert time.monotonic() < end_s, "It did not come to that."
        time.sleep(0.05)  # Another process works; it sends no event to wait for.


def exceeds(lake: KafkaLake, rows: int) -> bool:
    return lake.count() > rows


def producer(server: KafkaServer, **more: object) -> Producer:
    config = {"bootstrap.servers": server.address, "enable.idempotence": True, "log_level": 0}
    return Producer(config | more)


def writing(lake: KafkaLake, folder: Path) -> Child:
    return Child([sys.executable, str(HERE / "kafka_writer_child.py"), *lake.arguments], folder, {})


def stop_and_drain(children: list[Child]) -> None:
    for child in children:
        assert child.answer() == "ready"  # Before, a signal would end it at once.
        child.process.send_signal(signal.SIGTERM)
    for child in children:
        child.end()


def test_a_broker_that_is_killed_in_mid_stream_costs_no_row(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(2), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)

    def send(numbers: range) -> None:
        for part in (0, 1):
            produce(sender, topic, part, numbers)

    with writing(lake, tmp_path) as child:
        for round_ in range(3):
            sent = threading.Thread(target=send, args=(range(round_ * 5000, round_ * 5000 + 5000),))
            sent.start()
            wait_until(partial(exceeds, lake, round_ * 10_000))
            server.kill()
            server.start()
            sent.join()
        assert sender.flush(60) == 0
        wait_until(lambda: lake.count() >= 30_000)
        stop_and_drain([child])

    assert lake.rows() == {0: list(range(15_000)), 1: list(range(15_000))}


def test_writers_that_come_go_and_are_killed_share_the_partitions_and_double_nothing(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(4), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    rows = 4000
    with ExitStack() as stack:
        children = [stack.enter_context(writing(lake, tmp_path))]
        for quarter in range(4):
            for part in range(4):
                numbers = range(quarter * rows // 4, (quarter + 1) * rows // 4)
                produce(sender, topic, part, numbers)
            assert sender.flush(60) == 0
            children.append(stack.enter_context(writing(lake, tmp_path)))
            wait_until(partial(exceeds, lake, quarter * rows))
            children.pop(0).kill()
        wait_until(lambda: lake.count() >= 4 * rows)
        stop_and_drain(children)

    assert lake.rows() == {part: list(range(rows)) for part in range(4)}


def test_two_writers_each_get_a_part_and_the_dead_ones_part_goes_to_the_other(
    server: KafkaServer,
) -> None:
    topic = server.make_topic(4)
    settings = KafkaSettings(brokers=server.address, group=topic, session_s=3.0)
    one, two = (KafkaQueue(settings, foreign={"lab.events": topic}) for _ in range(2))
    names = one.partitions("lab.events")

    wait_until(lambda: one.claim("lab.events") == names)
    # Both are asked each time: members of a group come to terms only while they ask.
    shares: list[list[str]] = []

    def is_shared() -> bool:
        shares[:] = [queue.claim("lab.events") for queue in (one, two)]
        return [len(share) for share in shares] == [2, 2]

    wait_until(is_shared)
    assert sorted([*shares[0], *shares[1]]) == names

    two.close()
    wait_until(lambda: one.claim("lab.events") == names)
    one.close()


def test_a_writer_that_slept_through_a_rebalance_wakes_up_and_doubles_nothing(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(1), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    with writing(lake, tmp_path) as sleeper:
        produce(sender, topic, 0, range(5000))
        wait_until(lambda: lake.count() > 0)
        sleeper.process.send_signal(signal.SIGSTOP)
        produce(sender, topic, 0, range(5000, 20_000))
        assert sender.flush(60) == 0
        with writing(lake, tmp_path) as other:
            wait_until(lambda: lake.count() >= 15_000)
            sleeper.process.send_signal(signal.SIGCONT)
            produce(sender, topic, 0, range(20_000, 30_000))
            assert sender.flush(60) == 0
            wait_until(lambda: lake.count() >= 30_000)
            stop_and_drain([sleeper, other])

    assert lake.rows() == {0: list(range(30_000))}


def test_aborted_transactions_leave_no_row_and_committed_ones_each_of_theirs(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic = server.make_topic(1)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    sender = producer(server, **{"transactional.id": topic})
    sender.init_transactions(30)
    kept: list[int] = []
    for number in range(12):
        sender.begin_transaction()
        produce(sender, topic, 0, range(number * 100, number * 100 + 50))
        sender.flush(30)
        if number % 3 == 1:
            sender.abort_transaction(30)
        else:
            sender.commit_transaction(30)
            kept += range(number * 100, number * 100 + 50)
    # The last thing in the topic is a transaction that is still open.
    sender.begin_transaction()
    produce(sender, topic, 0, [9999])
    sender.flush(30)

    queue = lake.catalog.queue_of(lake.table)
    (partition,) = queue.partitions("lab.events")
    open_at = queue.bounds(partition).last
    writer = opened(lake, partition)
    while writer.has_more():
        writer.step(flush=True)
    assert lake.rows() == {0: kept}
    assert not any(envelope.rows for envelope in queue.read(partition, after=writer.position))
    assert writer.position <= open_at

    sender.abort_transaction(30)
    assert not writer.has_more()
    lake.catalog.close()


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(1), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    produce(sender, topic, 0, range(10))
    assert sender.flush(30) == 0
    (old,) = lake.catalog.queue_of(lake.table).partitions("lab.events")
    drained(lake)
    admin = server.admin()
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=5).topics)
    server.make_topic(1, name=topic)
    produce(producer(server), topic, 0, [])
    again = producer(server)
    produce(again, topic, 0, range(100, 105))
    assert again.flush(30) == 0

    fresh = KafkaLake(tmp_path / "lake", server.address, topic)
    drained(fresh)

    assert fresh.rows() == {0: [*range(10), *range(100, 105)]}
    with pytest.raises(UnknownName, match="made anew"):
        lake.catalog.queue_of(lake.table).read(old, after=0)
    for closing in (lake, fresh):
        closing.catalog.close()


def test_what_kafka_deleted_before_it_was_committed_is_told_and_never_skipped(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(1), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    produce(sender, topic, 0, range(10))
    assert sender.flush(30) == 0
    drained(lake)
    produce(sender, topic, 0, range(10, 20))
    assert sender.flush(30) == 0
    queue = lake.catalog.queue_of(lake.table)
    (partition,) = queue.partitions("lab.events")
    assert isinstance(queue, KafkaQueue)
    queue._topics.delete_before(queue._place(partition)[1], 15)

    fresh = KafkaLake(tmp_path / "lake", server.address, topic)
    with pytest.raises(Trimmed) as raised:
        fresh.catalog.queue_of(fresh.table).read(partition, after=12)
    assert raised.value.trimmed == 15
    log = TableLog.open(lake.catalog.store_of(lake.table))
    with pytest.raises(NeedsAttention, match="trimmed up to 15"):
        start_position(queue, partition, log)
    fresh.catalog.close()
    lake.catalog.close()


# Rows that ingest stages on Kafka


def test_staged_rows_are_kept_until_they_are_committed_and_then_trimmed(
    server: KafkaServer,
) -> None:
    clock = ManualClock()
    queue = KafkaQueue(KafkaSettings(brokers=server.address, topic_prefix="staged."), clock=clock)
    answers = [queue.append("lab.events", b"%d" % i, 1) for i in range(10)]
    (partition,) = queue.partitions("lab.events")

    assert queue.trim(partition, through=4, appended_before_s=0.0) == 0
    assert queue.trim(partition, through=4, appended_before_s=float("inf")) == 4
    assert queue.trim(partition, through=4, appended_before_s=float("inf")) == 0

    assert queue.bounds(partition).trimmed == answers[3].position
    assert [e.payload for e in queue.read(partition, after=4)] == [b"%d" % i for i in range(4, 10)]
    with pytest.raises(Trimmed):
        queue.read(partition, after=3)
    queue.close()


def test_rows_that_wait_for_a_broker_are_stored_once_when_it_is_back(tmp_path: Path) -> None:
    with kafka_server() as server:
        # A broker takes half a minute to come back where others keep the machine busy.
        queue = KafkaQueue(KafkaSettings(brokers=server.address, answer_s_max=150.0))
        queue.append("lab.events", b"first", 1)
        server.kill()
        waiting = [queue.submit("lab.events", b"%d" % i, 1) for i in range(50)]
        server.start()

        positions = [future.result(200).position for future in waiting]

        (partition,) = queue.partitions("lab.events")
        found = queue.read(partition, after=1)
        assert positions == list(range(2, 52))
        assert [envelope.payload for envelope in found] == [b"%d" % i for i in range(50)]
        queue.close()


def opened(lake: KafkaLake, partition: str) -> TopicWriter:
    store = lake.catalog.store_of(lake.table)
    create_table(store, lake.table.schema)
    from neuralake.records.envelopes import reader_of

    return TopicWriter(
        lake.catalog.queue_of(lake.table),
        partition,
        TableLog.open(store),
        FlushLimits(age_ms_max=20, rows_max=1000, bytes_max=1 << 20),
        reader=reader_of(lake.table, lake.catalog.settings, name="lab.events"),
    )


def drained(lake: KafkaLake) -> None:
    """All that is in the topic is in the table."""
    for partition in lake.catalog.queue_of(lake.table).partitions("lab.events"):
        writer = opened(lake, partition)
        while writer.has_more():
            writer.step(flush=True)


def test_poison_messages_stop_nothing_and_are_kept_once_each(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(2), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    poison = {7, 1500, 1501, 2999}
    with ExitStack() as stack:
        child = stack.enter_context(writing(lake, tmp_path))
        for part in (0, 1):
            for number in range(3000):
                value = b"poison %d" % number if number in poison else event(part, number)
                sender.produce(topic, value, partition=part)
            sender.produce(topic, None, partition=part, key=b"gone")
        assert sender.flush(60) == 0
        wait_until(lambda: lake.count() > 0)
        child.kill()
        second = stack.enter_context(writing(lake, tmp_path))
        wait_until(lambda: lake.count() >= 2 * (3000 - len(poison)))
        stop_and_drain([second])

    assert lake.rows() == {part: [i for i in range(3000) if i not in poison] for part in (0, 1)}
    kept = [
        (str(row["partition"]).split("#")[1][0], row["position"] - 1, row["value"])
        for row in lake.rejected()
    ]
    assert sorted(kept) == [(p, i, b"poison %d" % i) for p in "01" for i in sorted(poison)]


def test_a_live_frame_over_kafka_has_every_message_once_before_and_after_it_is_committed(
    server: KafkaServer, tmp_path: Path
) -> None:
    topic, sender = server.make_topic(2), producer(server)
    lake = KafkaLake(tmp_path / "lake", server.address, topic)
    live = lake.catalog.db("lab").table("events", live=True)
    for part in (0, 1):
        produce(sender, topic, part, range(100))
    assert sender.flush(30) == 0
    assert sorted(live.collect()["id"].to_list()) == sorted([*range(100)] * 2)

    first, _ = lake.catalog.queue_of(lake.table).partitions("lab.events")
    opened(lake, first).step(flush=True)
    produce(sender, topic, 1, range(100, 150))
    assert sender.flush(30) == 0

    assert lake.count() == 100
    assert sorted(live.collect()["id"].to_list()) == sorted([*range(100), *range(150)])
    lake.catalog.close()
