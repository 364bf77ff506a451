"""A live frame holds every acknowledged row once, whatever happens while it is collected."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from partitioned_queue import PartitionedQueue
from stream_lake import LIMITS, SCHEMA, TOPIC, StreamLake, payload

from neuralake import delta
from neuralake.clock import SystemClock
from neuralake.errors import NeedsAttention, Trimmed
from neuralake.filters import Filter
from neuralake.frame import NlkDataFrame
from neuralake.live import live_frame
from neuralake.queue import MemoryQueue, SqliteQueue
from neuralake.writer import TopicWriter


@pytest.fixture
def lake(tmp_path: Path) -> StreamLake:
    return StreamLake(tmp_path)


def live(lake: StreamLake, queue: Any = None) -> NlkDataFrame:
    return live_frame(lake.uri, SCHEMA, lambda: queue or lake.queue, TOPIC)


def ids(frame: pl.LazyFrame) -> list[int]:
    return sorted(frame.collect()["id"].to_list())


def test_a_row_is_there_as_soon_as_it_is_acknowledged(lake: StreamLake) -> None:
    lake.send(1)
    lake.writer().step(flush=True)
    lake.send(2)

    assert lake.ids() == [1]
    assert ids(live(lake)) == [1, 2]


def test_a_table_that_nobody_has_written_yet_is_its_queue(tmp_path: Path) -> None:
    queue = MemoryQueue()
    queue.append(TOPIC, payload(1, 2), 2)

    frame = live_frame(str(tmp_path / "not there"), SCHEMA, lambda: queue, TOPIC)

    assert ids(frame) == [1, 2]


def test_an_empty_table_with_an_empty_queue_has_the_declared_columns(lake: StreamLake) -> None:
    frame = live(lake).collect()

    assert frame.schema == pl.Schema({"id": pl.Int64, "site": pl.String})
    assert frame.height == 0


def test_making_the_frame_reads_nothing(tmp_path: Path) -> None:
    def never() -> MemoryQueue:
        raise AssertionError("the queue was opened")

    frame = live_frame(str(tmp_path / "not there"), SCHEMA, never, TOPIC).filter(pl.col("id") > 3)

    assert isinstance(frame, NlkDataFrame)
    assert frame.collect_schema().names() == ["id", "site"]


def test_filters_columns_and_limits_hold_over_both_parts(lake: StreamLake) -> None:
    lake.send(*range(10))
    lake.writer().step(flush=True)
    lake.send(*range(10, 20))
    filtered = live_frame(lake.uri, SCHEMA, lambda: lake.queue, TOPIC, [Filter("site", "=", "s1")])

    assert ids(filtered) == list(range(1, 20, 2))
    assert ids(live(lake).filter(pl.col("id") >= 8).select("id")) == list(range(8, 20))
    assert live(lake).head(13).collect().height == 13
    assert live(lake).select(pl.len()).collect().item() == 20
    counts = live(lake).group_by("site").agg(pl.len()).sort("site").collect()
    assert counts.rows() == [("s0", 10), ("s1", 10)]


def test_a_frame_can_be_collected_again_and_sees_what_came_since(lake: StreamLake) -> None:
    frame = live(lake)
    lake.send(1)
    assert ids(frame) == [1]
    lake.send(2)
    assert ids(frame) == [1, 2]


def test_a_queue_that_is_trimmed_without_grace_ends_in_a_clear_error(lake: StreamLake) -> None:
    class EverTrimmed(MemoryQueue):
        def read(self, partition: str, **kwargs: Any) -> Any:
            raise Trimmed(f"{partition} is trimmed.", topic=partition, after=0, trimmed=1)

    queue = EverTrimmed()
    queue.append(TOPIC, payload(1), 1)

    with pytest.raises((Trimmed, pl.exceptions.ComputeError), match="is trimmed"):
        live(lake, queue).collect()


def test_a_frame_has_the_rows_of_every_partition_of_the_topic_once(tmp_path: Path) -> None:
    lake, queue = StreamLake(tmp_path), PartitionedQueue()
    for i in range(6):
        queue.append(TOPIC, payload(i), 1)
    frame = live_frame(lake.uri, SCHEMA, lambda: queue, TOPIC)
    assert ids(frame) == [0, 1, 2, 3, 4, 5]

    # The second one goes on while the first is committed and trimmed.
    first, _ = queue.partitions(TOPIC)
    TopicWriter(queue, first, delta.TableLog.open(lake.uri), LIMITS, grace_s=0).step(flush=True)
    queue.trim(first, through=2, appended_before_s=float("inf"))
    queue.append(TOPIC, payload(6), 1)

    assert ids(frame) == [0, 1, 2, 3, 4, 5, 6]


def test_rows_from_before_a_nullable_column_was_added_have_it_as_null(tmp_path: Path) -> None:
    queue = MemoryQueue()
    queue.append(TOPIC, payload(1), 1)
    wider = SCHEMA.append(pa.field("note", pa.string()))

    frame = live_frame(str(tmp_path / "not there"), wider, lambda: queue, TOPIC).collect()

    assert frame.rows() == [(1, "s1", None)]


def test_a_damaged_envelope_is_told_by_its_position(tmp_path: Path) -> None:
    queue = MemoryQueue()
    queue.append(TOPIC, payload(1), 1)
    queue.append(TOPIC, b"this is no Arrow stream", 1)

    frame = live_frame(str(tmp_path / "not there"), SCHEMA, lambda: queue, TOPIC)

    with pytest.raises((NeedsAttention, pl.exceptions.ComputeError), match="at position 2"):
        frame.collect()


class MeddledQueue:
    """A queue beside which, just before chosen calls, the rest of the platform takes a step."""

    def __init__(self, queue: MemoryQueue, actions: list[Callable[[], object]]) -> None:
        self._queue, self._actions = queue, actions
        self.id = queue.id

    def _meddle(self) -> None:
        if self._actions:
            self._actions.pop(0)()

    def partitions(self, topic: str) -> list[str]:
        return self._queue.partitions(topic)

    def bounds(self, partition: str) -> Any:
        self._meddle()
        bounds = self._queue.bounds(partition)
        self._meddle()
        return bounds

    def read(self, partition: str, **kwargs: Any) -> Any:
        self._meddle()
        return self._queue.read(partition, **kwargs)


ACTIONS = st.lists(st.sampled_from(["write", "trim", "compact", "send", "nothing"]), max_size=8)


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=ACTIONS, during=ACTIONS)
def test_each_row_is_there_once_whatever_happens_between_the_steps_of_a_read(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], during: list[str]
) -> None:
    lake = StreamLake(tmp_path_factory.mktemp("lake"))
    writer, sent = lake.writer(), 0

    def send() -> None:
        nonlocal sent
        lake.send(sent, sent + 1)
        sent += 2

    def trim() -> None:
        lake.queue.trim(TOPIC, through=writer.position, appended_before_s=float("inf"))

    verbs: dict[str, Callable[[], object]] = {
        "write": lambda: writer.step(flush=True),
        "trim": trim,
        "compact": lambda: delta.compact_once(
            lake.uri, target_bytes=1 << 20, files_min=2, clock=lake.clock
        ),
        "send": send,
        "nothing": lambda: None,
    }
    for name in ["send", *before]:
        verbs[name]()
    acknowledged = sent

    found = ids(live(lake, MeddledQueue(lake.queue, [verbs[name] for name in during])))

    assert found[:acknowledged] == list(range(acknowledged))
    assert found == list(range(len(found)))  # Each once, and nothing that was never sent.
    assert len(found) <= sent


def test_readers_race_the_writer_compaction_and_trimming_of_a_real_queue(tmp_path: Path) -> None:
    """Producer, writer, compactor and trimmer at full speed; every read is complete and exact."""
    lake = StreamLake(tmp_path)
    queue = SqliteQueue(tmp_path / "queue.sqlite")
    stop, failures, sent = threading.Event(), list[BaseException](), 0

    def produce() -> None:
        nonlocal sent
        while not stop.is_set():
            queue.append(TOPIC, payload(sent, sent + 1), 2)
            sent += 2

    table = delta.TableLog.open(lake.uri)
    writer = TopicWriter(queue, TOPIC, table, LIMITS, grace_s=float("inf"))
    committed = [0] * 5

    def write() -> None:
        writer.step(flush=True)
        if writer.position > committed[-1]:
            committed.append(writer.position)

    def trim() -> None:
        # Four commits late: a reader tries five times, however little it gets of the machine.
        queue.trim(TOPIC, through=committed[-5], appended_before_s=float("inf"))

    def compact() -> None:
        delta.compact_once(lake.uri, target_bytes=1 << 20, files_min=2, clock=SystemClock())

    def forever(action: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.is_set():
                    action()
            except BaseException as error:
                failures.append(error)

        return run

    jobs = [produce, forever(write), forever(trim), forever(compact)]
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        for number in count():
            if (number >= 25 and committed[-5]) or failures:
                break
            acknowledged = sent
            found = ids(live(lake, queue))
            assert found[:acknowledged] == list(range(acknowledged))
            assert found == list(range(len(found)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        queue.close()

    assert not failures, failures[0]
    assert committed[-5] > 0
