"""A table that asks for it has its files sorted, once, with every row, in bounded memory."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.clock import ManualClock
from neuralake.delta import (
    CompactResult,
    TableLog,
    clustering_properties,
    compact_once,
    create_table,
    snapshot,
)
from neuralake.delta.clustering import CLUSTERED_BY, sorted_batches
from neuralake.errors import UsageError
from neuralake.storage import LocalStore, MemoryStore

SCHEMA = pa.schema([("channel", pa.int32()), ("time", pa.int64()), ("p", pa.string())])
KEYS = pa.schema([("a", pa.int32()), ("b", pa.float64()), ("c", pa.string()), ("row", pa.int64())])

values = st.tuples(
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from([-1.5, 0.0, 1.5, math.nan]),
    st.none() | st.text("xyé", max_size=2),
)


@settings(deadline=None, max_examples=examples(25))
@given(
    batches=st.lists(st.lists(values, max_size=12), max_size=8),
    by=st.permutations(["a", "b", "c"]).flatmap(
        lambda names: st.integers(1, 3).map(lambda count: names[:count])
    ),
    run_bytes=st.sampled_from([1, 200, 10**6]),
    piece_rows=st.integers(1, 7),
)
def test_spilled_and_merged_rows_are_in_the_order_of_one_stable_sort(
    batches: list[list[tuple[int | None, float | None, str | None]]],
    by: list[str],
    run_bytes: int,
    piece_rows: int,
) -> None:
    """Nulls are last, NaN before them, and equal rows keep their order."""
    tables, count = [], 0
    for batch in batches:
        columns = [*zip(*batch, strict=True)] or [(), (), ()]
        numbers = range(count, count + len(batch))
        arrays = [
            pa.array(column, field.type, from_pandas=False)
            for column, field in zip([*columns, numbers], KEYS, strict=True)
        ]
        tables.append(pa.table(arrays, schema=KEYS))
        count += len(batch)
    found = [*sorted_batches(iter(tables), by, run_bytes=run_bytes, piece_rows=piece_rows)]

    rows = pa.concat_tables([KEYS.empty_table(), *tables])
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in by])
    merged = pa.concat_tables([KEYS.empty_table(), *found])
    assert merged["row"].to_pylist() == rows.take(order)["row"].to_pylist()
    assert merged.schema == KEYS


def rows(*pairs: tuple[int, int]) -> pa.Table:
    channels, times = zip(*pairs, strict=True)
    return pa.table({"channel": channels, "time": times, "p": ["a"] * len(pairs)}, SCHEMA)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(clock=ManualClock())
    create_table(
        store, SCHEMA, partition_by=["p"], properties=clustering_properties(["channel", "time"])
    )
    return store


def read(store: MemoryStore) -> list[tuple[int, int]]:
    log = TableLog.open(store)
    return [
        (row["channel"], row["time"])
        for file in snapshot(store).files
        for batch in log.files.read(file)
        for row in batch.to_pylist()
    ]


def test_a_file_is_sorted_and_says_so(store: MemoryStore) -> None:
    log = TableLog.open(store)
    log.append(rows((2, 1), (1, 2)))
    log.append(rows((1, 1), (2, 0)))
    compact_once(store, target_bytes=2**20, files_min=2)

    assert read(store) == [(1, 1), (1, 2), (2, 0), (2, 1)]
    (file,) = snapshot(store).files
    assert file.tags == {CLUSTERED_BY: '["channel","time"]'}


def test_a_full_file_is_sorted_once_and_then_left_alone(store: MemoryStore) -> None:
    TableLog.open(store).append(rows((2, 1), (1, 2)))
    first = compact_once(store, target_bytes=10, files_min=2)

    assert (first.files_removed, first.files_added) == (1, 1)
    assert read(store) == [(1, 2), (2, 1)]
    assert compact_once(store, target_bytes=10, files_min=2) == CompactResult()


def test_another_order_is_asked_for_by_the_call(store: MemoryStore) -> None:
    TableLog.open(store).append(rows((1, 2), (2, 1)))
    compact_once(store, target_bytes=10, files_min=2, cluster_by=["time"])

    assert read(store) == [(2, 1), (1, 2)]


@pytest.mark.parametrize("column", ["p", "absent"])
def test_only_columns_of_the_files_can_be_sorted_by(store: MemoryStore, column: str) -> None:
    TableLog.open(store).append(rows((1, 2)))
    with pytest.raises(UsageError, match="cannot be clustered") as caught:
        compact_once(store, target_bytes=10, files_min=2, cluster_by=[column])
    assert caught.value.column == column


@pytest.mark.parametrize("text", ["time", '{"a": 1}', '["time"', "[1]"])
def test_a_property_that_is_no_list_of_columns_is_told(text: str) -> None:
    store = MemoryStore()
    create_table(store, SCHEMA, properties={"neuralake.clusterBy": text})
    TableLog.open(store).append(rows((1, 2)))
    with pytest.raises(UsageError, match=r"neuralake\.clusterBy"):
        compact_once(store, target_bytes=10, files_min=2)


def test_clustering_does_not_touch_what_it_is_not_asked_about(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "table")
    create_table(store, SCHEMA, partition_by=["p"])
    log = TableLog.open(store)
    log.append(rows((2, 1), (1, 2)))
    log.append(rows((1, 1)))
    compact_once(store, target_bytes=2**20, files_min=2)

    (file,) = snapshot(store).files
    assert file.tags is None
    (batch,) = log.files.read(file)
    assert batch["channel"].to_pylist() == [2, 1, 1], "the order in which they came"
