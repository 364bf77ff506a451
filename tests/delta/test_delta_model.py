"""Any sequence of appends, retries, compactions and checkpoints equals a list of transactions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
from neuralake.delta.commit import store_name

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
HANDLES = st.integers(0, 2)
PARTITIONS = st.lists(st.sampled_from(["a", "", None]), max_size=4)


class Table(RuleBasedStateMachine):
    """Three kept handles on one table; the model is a list of rows per partition."""

    @initialize()
    def create(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.uri = str(Path(self.folder.name, "table"))
        self.clock = ManualClock()
        create_table(self.uri, SCHEMA, partition_by=["p"])
        self.handles = [TableLog.open(self.uri, clock=self.clock) for _ in range(3)]
        self.model: dict[str | None, list[int]] = {}
        self.batches: list[pa.Table] = []

    @rule(handle=HANDLES, partitions=PARTITIONS)
    def append(self, handle: int, partitions: list[str | None]) -> None:
        first = sum(map(len, self.model.values()))
        ids = list(range(first, first + len(partitions)))
        batch = pa.table({"id": ids, "p": partitions}, SCHEMA)
        done = self.handles[handle].append(batch, txn=Txn("app", len(self.batches)))
        self.batches.append(batch)
        assert (done.repeated, done.rows) == (False, len(ids))
        for number, value in zip(ids, normalise(batch, ["p"])["p"].to_pylist(), strict=True):
            self.model.setdefault(value, []).append(number)

    @rule(handle=HANDLES, back=st.integers(1, 5))
    def retry(self, handle: int, back: int) -> None:
        if back <= len(self.batches):
            number = len(self.batches) - back
            again = self.handles[handle].append(self.batches[number], txn=Txn("app", number))
            assert again.repeated

    @rule(target_bytes=st.sampled_from([2_000, 2**20]), files_min=st.integers(2, 3))
    def compact(self, target_bytes: int, files_min: int) -> None:
        done = compact_once(
            self.uri, target_bytes=target_bytes, files_min=files_min, clock=self.clock
        )
        assert done.conflicts == 0

    @rule()
    def checkpoint(self) -> None:
        checkpoint(self.uri)

    @rule()
    def vacuum(self) -> None:
        vacuum(self.uri, retention_hours=0)

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        self.handles[handle] = TableLog.open(self.uri, clock=self.clock)

    @rule(seconds=st.integers(-100, 7200))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_table_is_the_model(self) -> None:
        found = pl.scan_delta(self.uri).sort("id").collect().rows()
        assert found == sorted((i, p) for p, ids in self.model.items() for i in ids)

    @invariant()
    def the_order_within_a_partition_is_that_of_the_commits(self) -> None:
        seen = snapshot(self.uri)
        for value, ids in self.model.items():
            files = [file for file in seen.files if file.partition["p"] == value]
            parts = [
                pl.read_parquet(Path(self.uri, store_name(file.path)))["id"].to_list()
                for file in files
            ]
            assert [i for part in parts for i in part] == ids
        assert seen.rows == sum(map(len, self.model.values()))
        assert seen.txn("app") == (len(self.batches) - 1 if self.batches else None)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
