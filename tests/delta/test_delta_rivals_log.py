"""Any history that we and deltalake write together reads the same through both, and Polars."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import TableLog, Txn, checkpoint, compact_once, create_table, snapshot
from neuralake.schema import conform

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
PARTITIONS = st.lists(st.sampled_from(["a", "b c", "d/ü%25", None]), min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), PARTITIONS),
        st.tuples(st.just("their_append"), PARTITIONS),
        st.tuples(st.just("their_overwrite"), PARTITIONS),
        st.tuples(st.just("their_delete"), st.integers(0, 3)),
        st.tuples(st.just("compact")),
        st.tuples(st.just("checkpoint")),
        st.tuples(st.just("their_checkpoint")),
    ),
    min_size=4,
    max_size=14,
)


class Shared:
    """One table, and the rows that it must have."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        create_table(uri, SCHEMA, partition_by=["p"])
        self.handle = TableLog.open(uri)
        self.rows: list[tuple[int, str | None]] = []
        self.next = 0
        self.txns: dict[str, int] = {}

    def batch(self, partitions: list[str | None]) -> pa.Table:
        ids = range(self.next, self.next + len(partitions))
        self.next += len(partitions)
        self.rows += zip(ids, partitions, strict=True)
        return pa.table({"id": list(ids), "p": partitions}, SCHEMA)

    def append(self, partitions: list[str | None]) -> None:
        self.txns["ours"] = self.next
        self.handle.append(self.batch(partitions), txn=Txn("ours", self.txns["ours"]))

    def their_append(self, partitions: list[str | None]) -> None:
        self.txns["theirs"] = self.next
        properties = CommitProperties(app_transactions=[Transaction("theirs", self.next)])
        rows = self.batch(partitions)
        write_deltalake(self.uri, rows, mode="append", commit_properties=properties)

    def their_overwrite(self, partitions: list[str | None]) -> None:
        self.rows.clear()
        write_deltalake(self.uri, self.batch(partitions), mode="overwrite")

    def their_delete(self, rest: int) -> None:
        DeltaTable(self.uri).delete(f"id % 4 = {rest}")
        self.rows = [row for row in self.rows if row[0] % 4 != rest]

    def compact(self) -> None:
        compact_once(self.uri, target_bytes=2**20, files_min=2)

    def checkpoint(self) -> None:
        checkpoint(self.uri)

    def their_checkpoint(self) -> None:
        DeltaTable(self.uri).create_checkpoint()

    def check(self) -> None:
        ours, theirs = snapshot(self.uri), DeltaTable(self.uri)
        actions = pa.table(theirs.get_add_actions()).to_pylist()
        assert ours.version == theirs.version()
        assert sorted(file.path for file in ours.files) == sorted(row["path"] for row in actions)
        assert {file.path: (file.bytes, file.rows) for file in ours.files} == {
            row["path"]: (row["size_bytes"], row["num_records"]) for row in actions
        }
        assert {file.path: file.partition["p"] for file in ours.files} == {
            row["path"]: row["partition"]["p"] for row in actions
        }
        for app_id in ("ours", "theirs", "nobody"):
            assert ours.txn(app_id) == theirs.transaction_version(app_id) == self.txns.get(app_id)
        told = pa.schema(theirs.schema().to_arrow()).empty_table()
        assert ours.schema == conform(told, SCHEMA, name="table").schema
        expected = sorted(self.rows)
        assert pl.scan_delta(self.uri).sort("id").collect().rows() == expected
        read = [
            row
            for file in ours.files
            for batch in self.handle.files.read(file)
            for row in zip(batch["id"].to_pylist(), [file.partition["p"]] * len(batch), strict=True)
        ]
        assert sorted(read) == expected


@settings(max_examples=examples(25), deadline=None)
@given(steps=STEPS)
def test_both_of_us_and_polars_read_the_same(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shared = Shared(str(Path(folder, "table")))
        for name, *arguments in steps:
            getattr(shared, name)(*arguments)
        shared.check()
        shared.handle.refresh()
        checkpoint(shared.uri)
        shared.check()
