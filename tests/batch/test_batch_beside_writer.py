"""Batch writes on a table into which the stream writer commits: each row once, none comes back."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_lake import SCHEMA, StreamLake

from neuralake.batch import BatchWriter
from neuralake.delta import TableLog, compact_once
from neuralake.filters import Filter
from neuralake.live import live_frame

STEPS = st.lists(
    st.sampled_from(["send", "write", "delete", "overwrite", "merge", "compact", "restart"]),
    max_size=14,
)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_a_writer_that_steps_beside_batch_writes_loses_and_repeats_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    lake = StreamLake(tmp_path_factory.mktemp("lake"))
    batch, writer = BatchWriter(lake.uri, clock=lake.clock), lake.writer()
    queued: list[int] = []
    model: list[int] = []
    sent = 0
    for step in ["send", "write", *steps]:
        if step == "send":
            lake.send(sent, sent + 1)
            queued += [sent, sent + 1]
            sent += 2
        elif step == "write":
            writer.step(flush=True)
            model, queued = model + queued, []
        elif step == "restart":
            writer = lake.writer()
        elif step == "delete":
            batch.delete(Filter("site", "=", "s0"))
            model = [number for number in model if number % 2]
        elif step == "overwrite":
            batch.overwrite([{"id": 1001, "site": "s1"}], Filter("site", "=", "s1"))
            model = [number for number in model if number % 2 == 0] + [1001]
        elif step == "merge":
            batch.merge([{"id": number, "site": f"s{number % 2}"} for number in (0, 1)], on="id")
            model += [number for number in (0, 1) if number not in model]
        else:
            compact_once(lake.uri, target_bytes=2**20, files_min=2, clock=lake.clock)

        assert lake.ids() == sorted(model)
        live = live_frame(lake.uri, SCHEMA, lambda: lake.queue, "lab.events").collect()
        assert sorted(live["id"]) == sorted(model + queued)


def test_batch_writes_race_a_writer_for_real(tmp_path: Path) -> None:
    """The appender adds pairs; deletes take the even ones of what was there, upserts number 1."""
    uri = str(tmp_path / "t")
    table = BatchWriter(uri, schema=SCHEMA, partition_by=["site"])
    table.append([{"id": 1, "site": "s1"}])
    stop, failures, appended = threading.Event(), list[BaseException](), 1

    def append() -> None:
        nonlocal appended
        log = BatchWriter(uri)
        while not stop.is_set():
            pair = (2 * appended, 2 * appended + 1)
            log.append([{"id": number, "site": f"s{number % 2}"} for number in pair])
            appended += 1

    def merge() -> None:
        other = BatchWriter(uri)
        while not stop.is_set():
            other.merge([{"id": 1, "site": "s1"}], on="id")

    def safely(work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=safely, args=[work]) for work in (append, merge)]
    for thread in threads:
        thread.start()
    try:
        for number in count():
            if failures or (number >= 15 and TableLog.open(uri).version > 30):
                break
            known = appended
            table.delete([Filter("site", "=", "s0"), Filter("id", "<", 2 * known)])
            even = pl.scan_delta(uri).filter(site="s0").select(pl.min("id")).collect().item()
            assert even is None or even >= 2 * known
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert not failures, failures[0]
    table.delete(Filter("site", "=", "s0"))
    assert sorted(pl.read_delta(uri)["id"]) == [1, *range(3, 2 * appended, 2)]
