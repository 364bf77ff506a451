"""Batches that are due: every row once, in order, whenever one asks."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.demo.neural import CHANNELS, NeuralSession
from neuralake.demo.sources import Batch, CursorSource, ReplaySource, Source, SpikeSource
from neuralake.demo.tables.lake import catalog

BEGIN = datetime(2013, 1, 1, tzinfo=UTC)
SESSION = NeuralSession(seed=1)
# Steps of time between two looks: from nothing to a long pause of the machine.
STEPS_S = st.lists(st.floats(min_value=0, max_value=15), min_size=1, max_size=30)


def replay(rows: int = 1000) -> ReplaySource:
    """A row every ten minutes, replayed an hour each second."""
    times = [BEGIN + timedelta(minutes=10 * number) for number in range(rows)]
    frame = pl.DataFrame(
        {"event_id": range(rows), "time": pl.Series(times, dtype=pl.Datetime("us", "UTC"))}
    )
    return ReplaySource("air.flights", frame, begin=BEGIN, speed_up=3600, rows_max=50)


def drain(source: Source, steps_s: list[float]) -> list[Batch]:
    """What a sender gets that asks after each of these pauses, twice."""
    elapsed_s, batches = 0.0, []
    for step_s in steps_s:
        elapsed_s += step_s
        batches += [batch for _ in range(2) if (batch := source.due(elapsed_s)) is not None]
    return batches


@settings(deadline=None, max_examples=examples(25))
@given(STEPS_S)
def test_a_replay_leaves_no_gap_and_repeats_nothing(steps_s: list[float]) -> None:
    batches = drain(replay(), steps_s)

    ids = [row for batch in batches for row in pl.read_ndjson(io.BytesIO(batch.body))["event_id"]]
    assert ids == list(range(len(ids)))
    assert [batch.rows for batch in batches] == [batch.body.count(b"\n") for batch in batches]
    assert all(batch.rows <= 50 for batch in batches)


def test_a_replay_is_never_ahead_of_its_time() -> None:
    """An hour each second: after two seconds, rows of up to 02:00."""
    batches = drain(replay(), [1.0, 1.0])

    assert sum(batch.rows for batch in batches) == 13


def test_a_replay_ends_with_its_rows() -> None:
    source = replay(rows=20)
    assert not source.is_over(0.0)
    drain(source, [1000.0])

    assert source.is_over(0.0)
    assert source.due(2000.0) is None


@settings(deadline=None, max_examples=examples(20))
@given(STEPS_S)
def test_spikes_are_numbered_by_bin_and_channel(steps_s: list[float]) -> None:
    batches = drain(SpikeSource(SESSION, "s-1", start_s=1e9), [step_s / 10 for step_s in steps_s])

    declared = catalog.definition("neural", "spikes").schema
    tables = [pa.ipc.open_stream(batch.body).read_all() for batch in batches]
    assert all(table.schema == declared for table in tables)
    ids = [number for table in tables for number in table["event_id"].to_pylist()]
    assert ids == list(range(len(ids)))
    assert len(ids) % CHANNELS == 0


@settings(deadline=None, max_examples=examples(20))
@given(STEPS_S)
def test_cursor_events_are_numbered_by_bin(steps_s: list[float]) -> None:
    batches = drain(CursorSource(SESSION, "s-1", start_s=1e9), steps_s)

    events = [event for batch in batches for event in json.loads(batch.body)]
    assert [event["event_id"] for event in events] == list(range(len(events)))
    declared = catalog.definition("neural", "cursor")
    assert all(list(event) == declared.columns for event in events)


def test_the_time_of_an_event_is_when_its_bin_was_over() -> None:
    batch = CursorSource(SESSION, "s-1", start_s=1e9).due(0.05)

    assert batch is not None
    times = [datetime.fromisoformat(event["time"]).timestamp() for event in json.loads(batch.body)]
    assert times == [1e9 + 0.02, 1e9 + 0.04]
