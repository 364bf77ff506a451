"""What of the queue is Kafka's own: others' messages, its errors, its settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka_mock import PARTITIONS, MockKafka

from neuralake.errors import (
    KeyReused,
    NeedsAttention,
    QueueFull,
    SettingsError,
    TooLarge,
    Unavailable,
    UnknownName,
    UsageError,
)
from neuralake.queue import Appended, Envelope, ProducerSequence
from neuralake.queue.kafka import KafkaQueue
from neuralake.queue.kafka_connection import client_config, explain
from neuralake.queue.kafka_reader import PartitionReader, ReaderPool
from neuralake.queue.protocol import READ_BYTES_MAX
from neuralake.settings import KafkaSettings, Settings


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka()


@pytest.fixture
def topic(kafka: MockKafka) -> str:
    return kafka.make_topic()


@pytest.fixture
def queue(kafka: MockKafka, topic: str) -> Iterator[KafkaQueue]:
    """Its topic `lab.events` is what others produce to `topic`."""
    found = KafkaQueue(kafka.settings(), foreign={"lab.events": topic})
    yield found
    found.close()


# Others' topics


def test_many_messages_are_one_envelope_with_all_their_facts(
    kafka: MockKafka, topic: str, queue: KafkaQueue
) -> None:
    kafka.produce(topic, b"zero")
    kafka.produce(
        topic,
        *(b"one", None, b"three"),
        key=b"k",
        headers=[("h", b"v")],
        timestamp=1_700_000_000_123,
    )
    (partition, *others) = queue.partitions("lab.events")

    (envelope,) = queue.read(partition, after=1)

    assert (envelope.position, envelope.rows, envelope.size) == (4, 3, len(b"onethree"))
    assert envelope.appended_s == 1_700_000_000.123
    assert envelope.messages is not None
    assert envelope.messages.values() == [b"one", None, b"three"]
    assert envelope.messages.keys() == [b"k"] * 3
    assert envelope.messages.positions() == [2, 3, 4]
    assert envelope.messages.headers() == [[("h", b"v")]] * 3
    assert envelope.messages.timestamps_ms() == [1_700_000_000_123] * 3
    assert len(others) == PARTITIONS - 1
    assert queue.read(others[0], after=0) == []


def test_a_read_of_messages_keeps_to_its_bytes_and_goes_on_behind_them(
    kafka: MockKafka, topic: str, queue: KafkaQueue
) -> None:
    kafka.produce(topic, *[b"%02d" % i for i in range(30)])
    (partition, *_) = queue.partitions("lab.events")

    found, after = [], 0
    while envelopes := queue.read(partition, after=after, bytes_max=9):
        (envelope,) = envelopes
        assert envelope.messages is not None
        assert envelope.size <= 9
        found += envelope.messages.values()
        after = envelope.position

    assert found == [b"%02d" % i for i in range(30)]


@pytest.mark.parametrize("bytes_max", [READ_BYTES_MAX, 7_000, 1_999])
def test_thousands_of_messages_are_read_once_and_in_order(
    kafka: MockKafka, topic: str, queue: KafkaQueue, bytes_max: int
) -> None:
    wanted = [b"%04d" % i if i % 7 else None for i in range(2_600)]
    kafka.produce(topic, *wanted, key=b"k")
    (partition, *_) = queue.partitions("lab.events")

    values: list[bytes | None] = []
    positions: list[int] = []
    keys: list[bytes | None] = []
    while envelopes := queue.read(partition, after=len(values), bytes_max=bytes_max):
        (envelope,) = envelopes
        assert envelope.messages is not None
        assert envelope.size <= bytes_max
        values += envelope.messages.values()
        positions += envelope.messages.positions()
        keys += envelope.messages.keys()
        assert envelope.position == positions[-1]

    assert values == wanted
    assert positions == list(range(1, len(wanted) + 1))
    assert keys == [b"k"] * len(wanted)


def test_a_position_is_of_what_was_read_though_another_reads_on_at_once(
    kafka: MockKafka, topic: str, queue: KafkaQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.produce(topic, *[b"%02d" % i for i in range(10)])
    (partition, *_) = queue.partitions("lab.events")
    give_back, others, had_turn = ReaderPool.give_back, list[Envelope](), threading.Event()

    def give_back_and_read_on(pool: ReaderPool, reader: PartitionReader) -> None:
        """As another thread may, the moment that it can."""
        give_back(pool, reader)
        if not had_turn.is_set():
            had_turn.set()
            others.extend(queue.read(partition, after=reader.reached, bytes_max=8))

    monkeypatch.setattr(ReaderPool, "give_back", give_back_and_read_on)
    (first,) = queue.read(partition, after=0, bytes_max=8)

    assert first.messages is not None
    assert first.messages.positions() == [1, 2, 3, 4]
    assert first.position == 4
    assert others[0].position == 8


def test_of_a_topic_without_such_columns_only_values_are_kept(kafka: MockKafka, topic: str) -> None:
    kafka.produce(topic, b"one", b"two", key=b"k", timestamp=1_700_000_000_123)
    queue = KafkaQueue(kafka.settings(), foreign={"lab.events": topic}, values_only=["lab.events"])

    (envelope,) = queue.read(queue.partitions("lab.events")[0], after=0)

    assert envelope.messages is not None
    assert envelope.messages.values() == [b"one", b"two"]
    assert (envelope.position, envelope.appended_s) == (2, 1_700_000_000.123)
    for column in ("keys", "timestamps_ms", "headers"):
        with pytest.raises(UsageError, match="only values"):
            getattr(envelope.messages, column)()
    queue.close()


def test_reading_begins_at_any_position_again(
    kafka: MockKafka, topic: str, queue: KafkaQueue
) -> None:
    kafka.produce(topic, *[b"%d" % i for i in range(10)])
    (partition, *_) = queue.partitions("lab.events")

    for after in (7, 2, 9, 0):
        (envelope,) = queue.read(partition, after=after)
        assert envelope.messages is not None
        assert envelope.messages.values() == [b"%d" % i for i in range(after, 10)]


def test_nothing_is_appended_to_others_topics_and_nothing_trimmed(
    kafka: MockKafka, topic: str, queue: KafkaQueue
) -> None:
    kafka.produce(topic, b"one")
    (partition, *_) = queue.partitions("lab.events")

    with pytest.raises(UsageError, match=topic):
        queue.append("lab.events", b"rows", 1)
    assert queue.trim(partition, through=1, appended_before_s=float("inf")) == 0
    assert queue.bounds(partition).last == 1
    assert queue.topics() == ["lab.events"]


def test_a_message_that_is_not_ingests_is_never_taken_for_rows(kafka: MockKafka) -> None:
    settings = kafka.settings()
    staged = kafka.make_topic(f"{settings.topic_prefix}t")
    kafka.produce(staged, b"of somebody")
    queue = KafkaQueue(settings)

    with pytest.raises(NeedsAttention, match="not neuralake's"):
        queue.read(queue.partitions("t")[0], after=0)
    queue.close()


def test_a_topic_that_is_not_there_is_named(kafka: MockKafka) -> None:
    queue = KafkaQueue(kafka.settings(), foreign={"lab.events": "no-such-topic"})

    with pytest.raises(UnknownName, match="no-such-topic"):
        queue.partitions("lab.events")
    assert queue.partitions("never.appended") == []
    queue.close()


@pytest.mark.parametrize(
    "name", ["lab.events", "lab.events#x", "lab.events#0@other", "lab.events#9"]
)
def test_what_is_no_partition_is_refused(queue: KafkaQueue, name: str) -> None:
    with pytest.raises(UsageError):
        queue.read(name, after=0)


def test_the_first_of_a_group_gets_every_partition(queue: KafkaQueue) -> None:
    claimed: list[str] = []
    for _ in range(3000):
        claimed = queue.claim("lab.events")
        if claimed:
            break
        queue.read(queue.partitions("lab.events")[0], after=0)  # Takes a moment.

    assert claimed == queue.partitions("lab.events")


# Producers


def test_a_producers_rows_stay_together_and_repeats_are_known_here(kafka: MockKafka) -> None:
    """Nothing is refused for its number: after a restart nobody knows what was before."""
    settings = kafka.settings()
    kafka.make_topic(f"{settings.topic_prefix}numbered")
    queue = KafkaQueue(settings)

    def append(number: int, text: bytes) -> Appended:
        producer = ProducerSequence("p", number)
        return queue.append("numbered", text, 1, producer=producer, fingerprint=text)

    found = [append(number, b"%d" % number) for number in (7, 8, 8, 9)]
    with pytest.raises(KeyReused):
        append(9, b"x")
    read: list[Envelope] = []
    while len(read) < 3:  # A read gives what has arrived.
        read += queue.read(found[0].partition, after=read[-1].position if read else 0)
    queue.close()

    assert [answer.repeated for answer in found] == [False, False, True, False]
    assert len({answer.partition for answer in found}) == 1
    assert [envelope.payload for envelope in read] == [b"7", b"8", b"9"]


# Trouble


def test_brokers_that_do_not_answer_are_waited_for() -> None:
    queue = KafkaQueue(
        KafkaSettings(brokers="127.0.0.1:1", answer_s_max=0.5), foreign={"t": "topic"}
    )

    with pytest.raises(Unavailable):
        _ = queue.id
    with pytest.raises(Unavailable):
        queue.partitions("t")
    queue.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._ALL_BROKERS_DOWN, Unavailable),
        (KafkaError._MSG_TIMED_OUT, Unavailable),
        (KafkaError.NOT_ENOUGH_REPLICAS, Unavailable),
        (KafkaError._QUEUE_FULL, QueueFull),
        (KafkaError.MSG_SIZE_TOO_LARGE, TooLarge),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownName),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, NeedsAttention),
        (KafkaError._AUTHENTICATION, NeedsAttention),
    ],
)
def test_an_error_of_kafkas_says_what_its_caller_does_next(code: int, kind: type) -> None:
    found = explain(KafkaException(KafkaError(code)), "This is done")

    assert type(found) is kind
    assert "This is done" in str(found)


def test_a_full_producer_refuses_and_stores_nothing(kafka: MockKafka) -> None:
    settings = kafka.settings()
    kafka.make_topic(f"{settings.topic_prefix}t")
    queue = KafkaQueue(settings, bytes_max=1)  # The library's least is a mebibyte.

    futures = [queue.submit("t", bytes(600_000), 1) for _ in range(12)]
    errors = [error for future in futures if (error := future.exception(30))]

    assert errors
    assert {type(error) for error in errors} == {QueueFull}
    stored = sum(queue.bounds(partition).rows for partition in queue.partitions("t"))
    assert stored == len(futures) - len(errors)
    queue.close()


# Settings


def test_secrets_come_from_the_environment_or_a_file_and_go_to_the_library_only(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret.properties").write_text(
        "# for the lab\nsasl.username = lab\nsasl.password = geheim=1\n"
    )
    settings = KafkaSettings(
        brokers="b:1", security_protocol="sasl_ssl", sasl_mechanism="PLAIN", ca_file="ca.pem"
    )
    environment = {"KAFKA_SASL_USERNAME": "lab", "KAFKA_SASL_PASSWORD": "geheim"}
    from_environment = client_config(settings, tmp_path, environment=environment)
    with_file = KafkaSettings(brokers="b:1", credentials="file:secret.properties")
    from_file = client_config(with_file, tmp_path, environment=environment)

    assert from_environment["sasl.password"] == "geheim"
    assert from_environment["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert from_file["sasl.password"] == "geheim=1"
    assert "geheim" not in f"{settings} {with_file}"


def test_a_secrets_file_that_cannot_be_read_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("sasl.password: geheim\n")
    for name, wanted in (("broken", "line 1"), ("missing", "FileNotFoundError")):
        with pytest.raises(SettingsError, match=wanted) as raised:
            client_config(KafkaSettings(brokers="b:1", credentials=f"file:{name}"), tmp_path)
        assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"security_protocol": "tls"}, "kafka.security_protocol"),
        ({"credentials": "hunter2"}, "kafka.credentials"),
        ({"brokers": "user:hunter2@host:1"}, "kafka.brokers"),
        ({"schema_registry": "https://user:hunter2@host"}, "kafka.schema_registry"),
        ({"topic_identity": "uuid"}, "kafka.topic_identity"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_without_what_may_be_a_secret(
    changes: dict[str, str], name: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings(kafka=KafkaSettings(**changes))  # type: ignore[arg-type]
    assert raised.value.name == name
    assert "hunter2" not in str(raised.value)
