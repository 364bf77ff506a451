"""What there is on a Kafka cluster: topics and their identities, and where partitions begin.

Answers about topics are kept for a moment: partitions are added rarely, and a topic that was made
anew is found by its identity, which is in the name of each of its partitions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from neuralake.clock import Clock
from neuralake.errors import NeedsAttention
from neuralake.queue.kafka_connection import explain

__all__ = ["FoundTopic", "KafkaTopics", "Place"]

# A new partition has rows from its first second on; nobody waits for them longer than this.
_KEPT_S = 5.0
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
# The settings of a topic that we make. Kafka deletes nothing of it by itself, for it does not know
# what is committed; and its times are the broker's, so that they grow with the offsets.
_STAGING = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
}
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as it was found; the same name may be another topic later."""

    name: str
    identity: str
    """Kafka's topic id; empty where topics are known by name only."""
    partitions: int


@dataclass(frozen=True, slots=True)
class Place:
    """One partition of a topic on the cluster."""

    topic: str
    number: int


class KafkaTopics:
    """Asks the cluster. Use it from any thread."""

    def __init__(
        self, config: dict[str, Any], *, clock: Clock, answer_s_max: float, has_ids: bool
    ) -> None:
        self._admin = AdminClient(config)
        self._clock, self._answer_s_max, self._has_ids = clock, answer_s_max, has_ids
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, FoundTopic]] = {}
        self._cluster = ""

    def cluster(self) -> str:
        """The cluster's own id."""
        if not self._cluster:
            with _explained("The Kafka cluster is asked for its id"):
                found = self._admin.list_topics(timeout=self._answer_s_max).cluster_id
            if not found:
                raise NeedsAttention("The Kafka cluster has no id; brokers before 0.10.1 do not.")
            self._cluster = found
        return self._cluster

    def names(self) -> list[str]:
        """Every topic that we may see."""
        with _explained("The Kafka cluster is asked for its topics"):
            return sorted(self._admin.list_topics(timeout=self._answer_s_max).topics)

    def find(self, name: str, *, again: bool = False) -> FoundTopic | None:
        """The topic, as it is now or was a moment ago (unless `again`); None: there is none."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            kept = self._kept.get(name)
        if kept and not again and now_s - kept[0] < _KEPT_S:
            return kept[1]
        found = self._look(name)
        with self._lock:
            if found is None:
                self._kept.pop(name, None)
            else:
                self._kept[name] = now_s, found
        return found

    def make(self, name: str, *, partitions: int, bytes_max: int) -> FoundTopic:
        """The topic, made now if it is not there, to keep rows until they are committed."""
        if found := self.find(name):
            return found
        topic = NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=-1,
            config=_STAGING | {"max.message.bytes": str(bytes_max)},
        )
        what = f"Kafka topic {name!r} is made"
        try:
            self._answer(self._admin.create_topics([topic])[name], what)
        except NeedsAttention as error:
            if error.facts.get("code") != "TOPIC_ALREADY_EXISTS":  # Somebody else was quicker.
                raise
        found = self.find(name, again=True)
        if found is None:
            raise explain(KafkaError(KafkaError.LEADER_NOT_AVAILABLE), what)
        return found

    def ends(self, place: Place) -> tuple[int, int]:
        """First offset that is kept, and the one behind the last that is committed."""
        first = self._offset(place, OffsetSpec.earliest())
        last = self._offset(place, OffsetSpec.latest())
        return first.result(), last.result()

    def end(self, place: Place) -> int:
        """The offset behind the last one that is readable: of transactions, committed ones only."""
        return self._offset(place, OffsetSpec.latest()).result()

    def offset_at(self, place: Place, time_s: float) -> int | None:
        """The first offset that was stored at `time_s` or later; None: none was."""
        found = self._offset(place, OffsetSpec.for_timestamp(int(time_s * 1000))).result()
        return None if found < 0 else found

    def delete_before(self, place: Place, offset: int) -> None:
        """Let the cluster forget what is before `offset`."""
        at = TopicPartition(place.topic, place.number, offset)
        what = f"Kafka topic {place.topic!r} is trimmed"
        with _explained(what):
            answers = self._admin.delete_records([at], request_timeout=self._answer_s_max)
            self._answer(next(iter(answers.values())), what)

    def _look(self, name: str) -> FoundTopic | None:
        what = f"Kafka topic {name!r} is looked for"
        with _explained(what):
            if not self._has_ids:
                # Asking for one topic by name may make it; the whole list does not.
                found = self._admin.list_topics(timeout=self._answer_s_max).topics.get(name)
                return FoundTopic(name, "", len(found.partitions)) if found else None
            answers = self._admin.describe_topics(
                TopicCollection([name]), request_timeout=self._answer_s_max
            )
            try:
                topic = answers[name].result(self._answer_s_max)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
                raise
        identity = str(topic.topic_id)
        if identity in ("", "None", _NO_ID):
            raise NeedsAttention(
                f"The brokers give Kafka topic {name!r} no id (they do since 2.8), so that a topic "
                f"that is made anew cannot be told from the old one. Set kafka.topic_identity = "
                f"'name' if that never happens here.",
                topic=name,
            )
        return FoundTopic(name, identity, len(topic.partitions))

    def _offset(self, place: Place, spec: Any) -> _Offset:
        at = TopicPartition(place.topic, place.number)
        what = f"Kafka topic {place.topic!r}, partition {place.number}, is asked for its offsets"
        with _explained(what):
            answers = self._admin.list_offsets(
                {at: spec},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._answer_s_max,
            )
        (answer,) = answers.values()
        return _Offset(lambda: int(self._answer(answer, what).offset))

    def _answer(self, answer: Future[_Answer], what: str) -> _Answer:
        with _explained(what):
            return answer.result(self._answer_s_max + 1)


@dataclass(frozen=True, slots=True)
class _Offset:
    """An offset that was asked for; others can be asked for meanwhile."""

    result: Callable[[], int]


class _explained:  # noqa: N801 reads as a verb in `with`
    """Kafka's errors inside become ours."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KafkaException):
            raise explain(error, self._what) from error
        if isinstance(error, TimeoutError):
            raise explain(KafkaError(KafkaError._TIMED_OUT), self._what) from error
