"""A kept snapshot is, after every look, what opening the table anew would give."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from delta_tables import delete_rows, inline_vector, put_entry
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.clock import ManualClock
from neuralake.delta import (
    Newest,
    Snapshot,
    TableLog,
    Txn,
    checkpoint,
    compact_once,
    create_table,
    snapshot,
)
from neuralake.delta.log import entry_name
from neuralake.errors import NeedsAttention, UnknownName
from neuralake.storage import LocalStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])


class CountingStore(LocalStore):
    """Counts what it is asked, by method."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.asked: Counter[str] = Counter()

    def read(self, name: str) -> bytes | None:
        self.asked["read"] += 1
        return super().read(name)

    def names(self, folder: str, *, after: str = "") -> list[str]:
        self.asked["names"] += 1
        return super().names(folder, after=after)


def make(uri: str) -> None:
    create_table(
        uri, SCHEMA, partition_by=["p"], properties={"delta.enableDeletionVectors": "true"}
    )


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "p": ["ab"[i % 2] for i in ids]}, SCHEMA)


def facts(found: Snapshot) -> tuple[object, ...]:
    log = found.log
    return (
        (found.version, log.protocol, log.metadata, log.txns, log.domains),
        (log.newest_ms, log.timestamp_ms, log.in_commit_ms),
        (found.schema, found.partition_by, found.rows),
        found.files,
    )


def replace(uri: str) -> None:
    shutil.rmtree(uri)
    make(uri)
    for n in range(3):
        TableLog.open(uri).append(rows(90 + n))


def describe(uri: str) -> None:
    """Another writer changes the metadata."""
    now = snapshot(uri)
    changed = msgspec.structs.replace(now.log.metadata, description=f"at {now.version}")
    put_entry(uri, now.version + 1, [changed])


def delete_one(uri: str) -> None:
    files = [file for file in snapshot(uri).files if file.deletion_vector is None]
    if files:
        delete_rows(uri, files[0], inline_vector([0]))


STEPS: dict[str, Callable[[str], object]] = {
    "append": lambda uri: TableLog.open(uri).append(rows(1, 2), txn=Txn("app", 1)),
    "append more": lambda uri: [TableLog.open(uri).append(rows(3)) for _ in range(3)],
    "compact": lambda uri: compact_once(uri, target_bytes=2**20, files_min=2),
    "delete": delete_one,
    "checkpoint": checkpoint,
    "describe": describe,
    "replace": replace,
    "nothing": lambda _: None,
}


@settings(deadline=None, max_examples=examples(20))
@given(steps=st.lists(st.tuples(st.sampled_from([*STEPS]), st.booleans()), max_size=12))
def test_after_any_history_it_is_what_opening_gives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool]]
) -> None:
    uri = str(tmp_path_factory.mktemp("newest") / "t")
    make(uri)
    kept = Newest(LocalStore(uri))
    for step, look in steps:
        STEPS[step](uri)
        if look:
            assert facts(kept.snapshot()) == facts(snapshot(uri, to_read=True))

    assert facts(kept.snapshot()) == facts(snapshot(uri, to_read=True))


def test_a_look_asks_for_the_next_entry_and_for_no_more(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    make(uri)
    log = TableLog.open(uri)
    for n in range(20):
        log.append(rows(n))
    store = CountingStore(uri)
    kept = Newest(store)
    first = kept.snapshot()
    store.asked.clear()

    assert kept.snapshot() is first
    assert store.asked == {"read": 1}

    log.append(rows(100))
    store.asked.clear()
    assert kept.snapshot().version == first.version + 1
    assert store.asked == {"read": 2}
    assert len(first.files) == 20, "what was given stays as it was"


def test_who_slept_for_long_opens_the_log_anew(tmp_path: Path) -> None:
    """The entry after its own may have been cleaned up, and then it would seem the newest."""
    uri, clock = str(tmp_path / "t"), ManualClock()
    make(uri)
    for n in range(4):
        TableLog.open(uri).append(rows(n))
    kept = Newest(LocalStore(uri), clock=clock)
    kept.snapshot()
    TableLog.open(uri).append(rows(7))
    checkpoint(uri)
    TableLog.open(uri).append(rows(8))
    for version in range(6):
        Path(uri, entry_name(version)).unlink()
    clock.advance(3 * 3600)

    assert facts(kept.snapshot()) == facts(snapshot(uri, to_read=True))


def test_a_table_that_is_gone_is_gone_and_a_damaged_entry_is_told(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    make(uri)
    kept = Newest(LocalStore(uri))
    kept.snapshot()
    Path(uri, entry_name(1)).write_text("{")
    for _ in range(2):
        with pytest.raises(NeedsAttention, match="entry 1 "):
            kept.snapshot()
    Path(uri, entry_name(1)).unlink()
    assert kept.snapshot().version == 0

    shutil.rmtree(uri)
    with pytest.raises(UnknownName):
        kept.snapshot()
    make(uri)
    assert kept.snapshot().version == 0


def test_threads_that_look_beside_a_writer_see_versions_grow(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    make(uri)
    kept, log = Newest(LocalStore(uri)), TableLog.open(uri)

    def look() -> list[tuple[int, int]]:
        found = (kept.snapshot() for _ in range(100))
        return [(each.version, len(each.files)) for each in found]

    with ThreadPoolExecutor(3) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        for n in range(60):
            log.append(pa.table({"id": [n], "p": ["a"]}, SCHEMA))
        seen = [look.result() for look in looks]

    assert all(each == sorted(each) for each in seen)
    assert {version - files for each in seen for version, files in each} == {0}
