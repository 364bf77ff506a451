"""Whatever small files hold and whoever wrote them: compaction keeps rows, and tells no lie."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta_tables import delete_rows, inline_vector, read_all
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import TableLog, compact_once, create_table, snapshot

MIB = 2**20
FEW = ("", "left", "right", "\U0010ffff", "ä" * 40)


def _few(rng: random.Random) -> str:
    return rng.choice(FEW)


def _any(rng: random.Random) -> str:
    return f"{rng.getrandbits(64):x}" * rng.randint(1, 4)


TEXTS: dict[str, Callable[[random.Random], str | None]] = {
    "few": _few,
    "any": _any,
    "one": lambda _: "same",
    "none": lambda _: None,
}
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("word", pa.string()),
        ("raw", pa.binary()),
        ("value", pa.float64()),
        ("flag", pa.bool_()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("inner", pa.struct([("name", pa.string()), ("n", pa.int32())])),
        ("tags", pa.list_(pa.string())),
    ]
)


def rows_of(first: int, count: int, kinds: Sequence[str], seed: int) -> pa.Table:
    """Rows of which each text column repeats, or does not, as `kinds` says."""
    rng = random.Random(seed)
    text, word, nested = (TEXTS[kind] for kind in kinds)

    def row(place: int) -> dict[str, Any]:
        is_null = rng.random() < 0.05
        return {
            "id": place,
            "text": None if is_null else text(rng),
            "word": word(rng),
            "raw": None if is_null else str(text(rng)).encode(),
            "value": None if is_null else rng.random(),
            "flag": rng.random() < 0.5,
            "at": place * 1_000,
            "inner": None if is_null else {"name": nested(rng), "n": place % 7},
            "tags": [nested(rng) for _ in range(rng.randint(0, 2))],
        }

    return pa.Table.from_pylist([row(first + i) for i in range(count)], SCHEMA)


BATCH = st.tuples(
    st.sampled_from([1, 40, 300, 1_200]),
    st.tuples(*[st.sampled_from([*TEXTS])] * 3),
    st.sampled_from(["ours", "ours", "ours", "deltalake", "deleted"]),
)


@pytest.mark.parametrize("mode", ["none", "name", "id"])
@settings(deadline=None, max_examples=8)  # Machines are busy; time is not the claim.
@given(batches=st.lists(BATCH, min_size=2, max_size=5), seed=st.integers(0, 99))
def test_rows_and_bounds_are_what_they_were(
    mode: str, batches: list[tuple[int, tuple[str, str, str], str]], seed: int
) -> None:
    """With and without dictionaries, deleted rows, column mapping, files of another writer."""
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder, "t"))
        properties = {"delta.columnMapping.mode": mode} if mode != "none" else {}
        properties["delta.enableDeletionVectors"] = "true"
        is_shared = mode == "none" and any(how == "deltalake" for *_, how in batches)
        if is_shared:
            properties = {}  # The other writer knows neither.
        create_table(uri, SCHEMA, properties=properties)
        first = 0
        for place, (count, kinds, how) in enumerate(batches):
            rows = rows_of(first, count, kinds, seed + place)
            first += count
            if how == "deltalake" and is_shared:
                write_deltalake(uri, rows, mode="append")
                continue
            TableLog.open(uri).append(rows)
            if how == "deleted" and not is_shared and count > 1:
                gone = [*range(0, count, max(2, count // 5))]
                delete_rows(uri, snapshot(uri).files[-1], inline_vector(gone))
        before = read_all(uri).sort_by("id")
        while compact_once(uri, target_bytes=64 * MIB, files_min=2).files_removed:
            pass

        assert read_all(uri).sort_by("id").equals(before)
        _check_bounds(uri, before)
        if mode == "none":
            _check_readers(uri, before)


def _check_readers(uri: str, rows: pa.Table) -> None:
    assert pl.scan_delta(uri).sort("id").collect().equals(pl.DataFrame(rows), null_equal=True)
    for condition, wanted in (
        ("word = 'left'", pl.col("word") == "left"),
        ("text = 'same'", pl.col("text") == "same"),
        ("text > 'left'", pl.col("text") > "left"),
    ):
        count = pl.DataFrame(rows).filter(wanted).height
        assert pl.scan_delta(uri).filter(wanted).select(pl.len()).collect().item() == count
        query = QueryBuilder().register("t", DeltaTable(uri))
        answer = query.execute("SELECT count(*) AS n FROM t WHERE " + condition)  # noqa: S608 ours
        assert pa.table(answer.read_all()).to_pylist() == [{"n": count}]


def _check_bounds(uri: str, rows: pa.Table) -> None:
    """Of the log and of every row group: no text is outside, and nulls are counted."""
    nulls = 0
    for path, counts in _files(uri):
        groups = pq.read_metadata(path)
        nulls += sum(counts.values())
        at = 0
        table = pq.read_table(path)
        for index in range(groups.num_row_groups):
            group = groups.row_group(index)
            part = table.slice(at, group.num_rows)
            at += group.num_rows
            for place in (0, 1, 2):  # id, text, word
                chunk, column = group.column(place), part.column(place)
                assert chunk.num_values == len(column)
                if not chunk.is_stats_set:
                    continue
                assert chunk.statistics.null_count == column.null_count
                values = column.drop_null().to_pylist()
                if values and chunk.statistics.has_min_max:
                    assert chunk.statistics.min <= min(values)
                    assert chunk.statistics.max >= max(values)
        assert at == len(table)
    assert nulls == rows["word"].null_count


def _files(uri: str) -> Iterator[tuple[Path, dict[str, int]]]:
    """Each live file with how many nulls of `word` the log counts, if no row of it is deleted."""
    found = snapshot(uri)
    name = found.state.columns.physical_name("word")
    for file in found.files:
        counted = msgspec.json.decode(file.stats or "{}")["nullCount"]
        yield Path(uri, file.path), {"word": counted.get(name, 0)}
