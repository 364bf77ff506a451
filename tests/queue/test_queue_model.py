"""Any sequence of calls, against a model of a few lines: both queues do the same."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from neuralake.clock import ManualClock
from neuralake.errors import QueueFull, Trimmed
from neuralake.queue import Amount, Bounds, Envelope, MemoryQueue, Queue, QueueLimits, SqliteQueue
from neuralake.queue.payload_files import FILE_BYTES_MIN

BYTES_MAX = 300
TOPIC_BYTES_MAX, TOPIC_ROWS_MAX = 200, 15
LIMITS = QueueLimits(whole=Amount(BYTES_MAX, 10**6), topic=Amount(TOPIC_BYTES_MAX, TOPIC_ROWS_MAX))
KEYS_RETENTION_S = 50.0

TOPICS = st.sampled_from(["a", "b", "ü"])
PAYLOADS = st.binary(max_size=120)
KEYS = st.none() | st.sampled_from(["k1", "k2"])


@dataclass
class ModelTopic:
    kept: list[Envelope] = field(default_factory=list)
    last: int = 0
    trimmed: int = 0
    keys: dict[str, tuple[int, float]] = field(default_factory=dict)


class QueueMachine(RuleBasedStateMachine):
    """A queue beside lists; subclasses say which queue."""

    queue: Queue

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1_000.0)
        self.model: dict[str, ModelTopic] = {}

    def open(self) -> Queue:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.queue = self.open()

    @rule(seconds=st.sampled_from([0.5, 10.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(topic=TOPICS, payload=PAYLOADS, rows=st.integers(0, 9), key=KEYS)
    def append(self, topic: str, payload: bytes, rows: int, key: str | None) -> None:
        known = self.model.get(topic, ModelTopic())
        now_s = self.clock.now_s()
        if key in known.keys and known.keys[key][1] >= now_s - KEYS_RETENTION_S:
            answer = self.queue.append(topic, payload, rows, key=key)
            assert (answer.position, answer.repeated) == (known.keys[key][0], True)
            return
        kept_bytes = sum(len(e.payload) for each in self.model.values() for e in each.kept)
        own_bytes, own_rows = (
            sum(len(e.payload) for e in known.kept),
            sum(e.rows for e in known.kept),
        )
        if (
            kept_bytes + len(payload) > BYTES_MAX
            or own_bytes + len(payload) > TOPIC_BYTES_MAX
            or own_rows + rows > TOPIC_ROWS_MAX
        ):
            with pytest.raises(QueueFull):
                self.queue.append(topic, payload, rows, key=key)
            return
        answer = self.queue.append(topic, payload, rows, key=key)
        assert answer.position > known.last
        assert not answer.repeated
        self.model[topic] = known
        known.last = answer.position
        known.kept.append(Envelope(answer.position, payload, rows, now_s))
        if key is not None:
            known.keys[key] = (answer.position, now_s)

    @rule(topic=TOPICS, ahead=st.integers(-2, 4), age_s=st.sampled_from([-100.0, 0.0, 20.0]))
    def trim(self, topic: str, ahead: int, age_s: float) -> None:
        known = self.model.get(topic, ModelTopic())
        through, before_s = known.trimmed + ahead, self.clock.now_s() - age_s
        expected = 0
        for envelope in known.kept:
            if envelope.position > through or envelope.appended_s >= before_s:
                break
            expected += 1
            known.trimmed = envelope.position
        del known.kept[:expected]
        assert self.queue.trim(topic, through=through, appended_before_s=before_s) == expected

    @rule(topic=TOPICS, ahead=st.integers(-2, 6), count=st.integers(1, 5), size=st.integers(0, 200))
    def read(self, topic: str, ahead: int, count: int, size: int) -> None:
        known = self.model.get(topic, ModelTopic())
        after = max(0, known.trimmed + ahead)
        if after < known.trimmed:
            with pytest.raises(Trimmed):
                self.queue.read(topic, after=after, envelopes_max=count, bytes_max=size)
            return
        expected: list[Envelope] = []
        for envelope in known.kept:
            read_bytes = sum(len(e.payload) for e in expected) + len(envelope.payload)
            if envelope.position > after and not (expected and read_bytes > size):
                expected.append(envelope)
            elif envelope.position > after:
                break
        assert (
            self.queue.read(topic, after=after, envelopes_max=count, bytes_max=size)
            == expected[:count]
        )

    @invariant()
    def bounds_and_topics_agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert self.queue.topics() == sorted(self.model)
        for topic, known in self.model.items():
            assert self.queue.bounds(topic) == Bounds(
                known.last,
                known.trimmed,
                sum(envelope.rows for envelope in known.kept),
                sum(len(envelope.payload) for envelope in known.kept),
            )

    def teardown(self) -> None:
        self.queue.close()


class MemoryMachine(QueueMachine):
    def open(self) -> Queue:
        return MemoryQueue(clock=self.clock, limits=LIMITS, keys_retention_s=KEYS_RETENTION_S)


class SqliteMachine(QueueMachine):
    file_bytes_min = FILE_BYTES_MIN

    def open(self) -> Queue:
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
        return SqliteQueue(
            Path(self.folder.name, "queue.sqlite"),
            file_bytes_min=self.file_bytes_min,
            clock=self.clock,
            limits=LIMITS,
            keys_retention_s=KEYS_RETENTION_S,
        )

    @rule()
    def restart(self) -> None:
        identity = self.queue.id
        self.queue.close()
        self.queue = self.open()
        assert self.queue.id == identity

    @invariant()
    def each_large_payload_is_a_file(self) -> None:
        """What is trimmed or was refused has none."""
        if hasattr(self, "folder"):
            kept = [len(e.payload) for each in self.model.values() for e in each.kept]
            files = Path(self.folder.name, "queue.sqlite-payloads").glob("*")
            assert sorted(each.stat().st_size for each in files) == sorted(
                size for size in kept if size >= self.file_bytes_min
            )

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class FilesMachine(SqliteMachine):
    file_bytes_min = 40


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(
    deadline=None, max_examples=examples(20), stateful_step_count=30
)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(
    deadline=None, max_examples=examples(25), stateful_step_count=30
)
TestFilesMachine = FilesMachine.TestCase
TestFilesMachine.settings = settings(
    deadline=None, max_examples=examples(25), stateful_step_count=30
)
