"""Each acknowledged row reaches the table exactly once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_lake import LIMITS, SCHEMA, TOPIC, StreamLake, payload

from neuralake.delta import TableLog, Txn, create_table, snapshot
from neuralake.errors import NeedsAttention
from neuralake.queue import Amount, MemoryQueue
from neuralake.queue.topic import app_id
from neuralake.writer import FlushLimits, TopicWriter


class RestoredQueue(MemoryQueue):
    """An older copy of the queue `of`: its identity, without its envelopes."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self._of = of

    @property
    def id(self) -> str:
        return self._of


def test_a_quiet_table_commits_at_once_and_a_busy_one_keeps_its_pace(lake: StreamLake) -> None:
    writer = lake.writer()
    lake.send(1)
    commit = writer.step()
    assert commit
    assert commit.rows == 1

    lake.send(2)
    assert writer.step() is None
    lake.clock.advance(0.11)
    commit = writer.step()
    assert commit
    assert commit.rows == 1
    assert lake.ids() == [1, 2]


def test_envelopes_that_wait_become_one_commit_in_order(lake: StreamLake) -> None:
    for i in range(0, 30, 3):
        lake.send(i, i + 1, i + 2)

    commit = lake.writer().step()

    assert commit
    assert (commit.rows, commit.files) == (30, 2)
    assert lake.ids() == list(range(30))


def test_the_txn_of_a_commit_is_the_last_position_in_it(lake: StreamLake) -> None:
    lake.send(1)
    last = lake.send(2)

    lake.writer().step()

    assert snapshot(lake.uri).txn(app_id(lake.queue.id, TOPIC)) == last


def test_a_writer_that_starts_anew_goes_on_where_the_table_ends(lake: StreamLake) -> None:
    lake.send(1, 2)
    lake.writer().step()
    lake.send(3)

    lake.writer().step()

    assert lake.ids() == [1, 2, 3]


def test_of_two_writers_on_one_topic_the_slower_repeats_nothing(lake: StreamLake) -> None:
    """Both hold overlapping batches; the one that loses the race begins again behind the other."""
    first, second = lake.writer(), lake.writer()
    lake.send(1)
    first.step(flush=False)
    lake.send(2)
    first.step()  # Not due: takes row 2 into memory.
    lake.send(3)
    lake.clock.advance(1)

    second.step(flush=True)
    first.step(flush=True)
    lake.send(4)
    for writer in (first, second, first):
        writer.step(flush=True)

    assert lake.ids() == [1, 2, 3, 4]


def test_a_batch_that_another_writer_committed_in_part_is_begun_again(lake: StreamLake) -> None:
    slow, quick = lake.writer(), lake.writer()
    lake.send(1)
    quick.step(flush=True)  # `slow` still believes that nothing is committed.
    lake.send(2)

    assert slow.step(flush=True) is None
    slow.step(flush=True)

    assert lake.ids() == [1, 2]


def test_the_queue_is_trimmed_behind_the_commit_and_after_the_grace_time(lake: StreamLake) -> None:
    writer = lake.writer(grace_s=60)
    lake.send(1)
    writer.step()
    assert lake.queue.bounds(TOPIC).rows == 1

    lake.clock.advance(61)
    writer.step()

    assert lake.queue.bounds(TOPIC).rows == 0


@pytest.mark.parametrize("kept_max", [Amount(2 * len(payload(1)), 100), Amount(10**6, 2)])
def test_a_crowded_queue_is_trimmed_after_a_second_instead(
    lake: StreamLake, kept_max: Amount
) -> None:
    """At full rate a minute of committed rows would fill the queue and turn senders away."""
    writer = lake.writer(grace_s=60, kept_max=kept_max)
    for i in range(3):
        lake.send(i)
    writer.step()
    assert lake.queue.bounds(TOPIC).rows == 3

    lake.clock.advance(1.5)
    writer.step()

    assert lake.queue.bounds(TOPIC).rows == 0


def test_a_queue_that_is_older_than_the_table_needs_a_person(lake: StreamLake) -> None:
    """A queue restored from a backup would hand out positions that the table takes for old."""
    position = lake.send(1)
    table = TableLog.open(lake.uri)
    restored = RestoredQueue(lake.queue.id)
    lake.writer().step()
    assert position > restored.bounds(TOPIC).last

    with pytest.raises(NeedsAttention, match="restored from an older copy"):
        TopicWriter(restored, TOPIC, table, LIMITS, clock=lake.clock)


def test_a_table_that_is_older_than_the_queue_needs_a_person(
    lake: StreamLake, tmp_path: Path
) -> None:
    old = str(tmp_path / "old")
    create_table(old, TableLog.open(lake.uri).schema, partition_by=["site"])
    writer = lake.writer()
    lake.send(1)
    writer.step()
    rows = pa.ipc.open_stream(payload(1)).read_all()
    TableLog.open(old).append(rows, txn=Txn(app_id(lake.queue.id, TOPIC), 1))
    lake.send(2)
    lake.clock.advance(5)
    writer.step(flush=True)
    lake.clock.advance(5)
    writer.step()
    assert lake.queue.bounds(TOPIC).trimmed > 1

    with pytest.raises(NeedsAttention, match="the table is an older copy"):
        TopicWriter(lake.queue, TOPIC, TableLog.open(old), LIMITS, clock=lake.clock)


def test_a_queue_made_anew_starts_from_its_own_beginning(lake: StreamLake) -> None:
    lake.send(1)
    lake.writer().step()
    lake.queue = MemoryQueue(clock=lake.clock)
    lake.send(2)

    lake.writer().step()

    assert lake.ids() == [1, 2]


STEPS = st.lists(
    st.sampled_from(["send", "step a", "step b", "flush a", "flush b", "restart a", "age"]),
    max_size=25,
)


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_in_any_order_of_steps_of_two_writers_each_row_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    lake = StreamLake(tmp_path_factory.mktemp("lake"))
    writers = {"a": lake.writer(), "b": lake.writer()}
    sent = 0
    for step in steps:
        verb, _, name = step.partition(" ")
        if verb == "send":
            lake.send(sent, sent + 1)
            sent += 2
        elif verb == "age":
            lake.clock.advance(0.2)
        elif verb == "restart":
            writers[name] = lake.writer()
        else:
            writers[name].step(flush=verb == "flush")
    for _ in range(3):
        for writer in writers.values():
            writer.step(flush=True)

    assert lake.ids() == list(range(sent))


def test_a_writer_whose_table_is_made_anew_goes_on_with_what_is_queued(lake: StreamLake) -> None:
    writer = lake.writer(grace_s=60.0)
    lake.send(1)
    writer.step()
    shutil.rmtree(lake.uri)
    lake.send(2)
    with pytest.raises(NeedsAttention, match="deleted"):
        writer.step(flush=True)
    create_table(lake.uri, SCHEMA, partition_by=["site"])

    assert writer.step(flush=True) is None  # Finds the new table, and begins again.
    writer.step(flush=True)

    assert lake.ids() == [1, 2]


def test_a_writer_beside_which_the_table_is_restored_commits_again_what_is_missing(
    lake: StreamLake, tmp_path: Path
) -> None:
    writer = lake.writer(grace_s=60.0)
    lake.send(1)
    writer.step()
    shutil.copytree(lake.uri, tmp_path / "copy")
    lake.send(2)
    writer.step(flush=True)
    shutil.rmtree(lake.uri)
    shutil.copytree(tmp_path / "copy", lake.uri)
    lake.send(3)

    assert writer.step(flush=True) is None
    writer.step(flush=True)

    assert lake.ids() == [1, 2, 3]


@pytest.mark.parametrize(("content", "rows"), [(b"no Arrow", 1), (payload(2, 3), 3)])
def test_a_damaged_envelope_stops_its_topic_by_name_and_loses_nothing(
    lake: StreamLake, content: bytes, rows: int
) -> None:
    lake.send(1)
    bad = lake.queue.append(TOPIC, content, rows).position
    lake.send(4)
    writer = lake.writer()

    for _ in range(2):
        with pytest.raises(NeedsAttention, match=f"position {bad}"):
            writer.step(flush=True)
        lake.clock.advance(100.0)

    assert lake.queue.bounds(TOPIC).trimmed == 0
    assert lake.ids() == []


@pytest.mark.parametrize("is_restored", [True, False])
def test_an_idle_writer_trims_nothing_that_a_restored_or_new_table_does_not_hold(
    lake: StreamLake, tmp_path: Path, is_restored: bool
) -> None:
    writer = lake.writer(grace_s=60.0)
    shutil.copytree(lake.uri, tmp_path / "copy")
    lake.send(1)
    writer.step()
    if is_restored:
        shutil.copytree(lake.uri, tmp_path / "copy", dirs_exist_ok=True)
    lake.send(2)
    writer.step(flush=True)
    shutil.rmtree(lake.uri)
    shutil.copytree(tmp_path / "copy", lake.uri)
    lake.clock.advance(61.0)

    writer.step()
    writer.step(flush=True)

    assert lake.ids() == [1, 2]


def test_rows_wait_for_their_pace_although_the_table_is_newer_than_the_trims(
    lake: StreamLake,
) -> None:
    lake.send(1)
    lake.queue.trim(TOPIC, through=1, appended_before_s=float("inf"))
    limits = FlushLimits(age_ms_max=5_000, rows_max=1000, bytes_max=1_000_000)
    writer = TopicWriter(
        lake.queue, TOPIC, TableLog.open(lake.uri, clock=lake.clock), limits, clock=lake.clock
    )
    writer.step()
    lake.send(2)
    lake.clock.advance(1.5)
    writer.step()
    lake.send(3)
    lake.clock.advance(1.5)
    writer.step()

    assert lake.ids() == [2]
    lake.clock.advance(5.0)
    writer.step()
    assert lake.ids() == [2, 3]
