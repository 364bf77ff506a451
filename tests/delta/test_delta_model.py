"""Any sequence of appends, retries, compactions and checkpoints equals a list of transactions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.clock import ManualClock
from neuralake.delta import (
    TableLog,
    Txn,
    checkpoint,
    compact_once,
    create_table,
    normalise,
    snapshot,
    vacuum,
)
from neuralake.delta.files import store_name

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
HANDLES = st.integers(0, 2)
# Two partitions at most after an empty string became null: so that compaction has work to do.
APPEND = st.tuples(
    st.just("append"),
    HANDLES,
    st.lists(st.sampled_from(["a", "", None]), max_size=4),
)
OTHERS = st.one_of(
    st.tuples(st.just("retry"), HANDLES, st.integers(1, 5)),
    st.tuples(st.just("compact"), st.sampled_from([2_000, 2**20]), st.integers(2, 3)),
    st.tuples(st.just("reopen"), HANDLES),
    st.tuples(st.just("wait"), st.integers(-100, 7200)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("vacuum")),
)
# Hypothesis prefers short lists and few kinds; appends in between keep it from trying nothing.
STEPS = st.lists(st.tuples(APPEND, APPEND, OTHERS), min_size=3, max_size=8)


class Table:
    """Three kept handles on one table; the model is a list of rows per partition."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.clock = ManualClock()
        create_table(self.uri, SCHEMA, partition_by=["p"])
        self.handles = [TableLog.open(self.uri, clock=self.clock) for _ in range(3)]
        self.model: dict[str | None, list[int]] = {}
        self.batches: list[pa.Table] = []

    def append(self, handle: int, partitions: list[str | None]) -> None:
        first = sum(map(len, self.model.values()))
        ids = list(range(first, first + len(partitions)))
        batch = pa.table({"id": ids, "p": partitions}, SCHEMA)
        done = self.handles[handle].append(batch, txn=Txn("app", len(self.batches)))
        self.batches.append(batch)
        assert (done.repeated, done.rows) == (False, len(ids))
        for number, value in zip(ids, normalise(batch, ["p"])["p"].to_pylist(), strict=True):
            self.model.setdefault(value, []).append(number)

    def retry(self, handle: int, back: int) -> None:
        if back <= len(self.batches):
            number = len(self.batches) - back
            again = self.handles[handle].append(self.batches[number], txn=Txn("app", number))
            assert again.repeated

    def compact(self, target_bytes: int, files_min: int) -> None:
        done = compact_once(
            self.uri, target_bytes=target_bytes, files_min=files_min, clock=self.clock
        )
        assert done.conflicts == 0

    def checkpoint(self) -> None:
        checkpoint(self.uri)

    def vacuum(self) -> None:
        vacuum(self.uri, retention_hours=0)

    def reopen(self, handle: int) -> None:
        self.handles[handle] = TableLog.open(self.uri, clock=self.clock)

    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def check(self) -> None:
        found = pl.scan_delta(self.uri).sort("id").collect().rows()
        assert found == sorted((i, p) for p, ids in self.model.items() for i in ids)
        seen = snapshot(self.uri)
        for value, ids in self.model.items():
            files = [file for file in seen.files if file.partition["p"] == value]
            parts = [
                pl.read_parquet(Path(self.uri, store_name(file.path)))["id"].to_list()
                for file in files
            ]
            assert [i for part in parts for i in part] == ids, "in the order of the commits"
        assert seen.rows == sum(map(len, self.model.values()))
        assert seen.txn("app") == (len(self.batches) - 1 if self.batches else None)


@settings(max_examples=examples(20), deadline=None)
@given(rounds=STEPS)
def test_the_table_is_the_model_after_every_step(rounds: list[tuple[tuple[Any, ...], ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Table(str(Path(folder, "table")))
        for steps in rounds:
            for name, *arguments in steps:
                getattr(table, name)(*arguments)
            table.check()
