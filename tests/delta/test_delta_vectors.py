"""Deletion vectors of other writers: deleted rows stay deleted, whoever reads or rewrites."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from delta_tables import bitmap, delete_rows, inline_vector, read_all, stored_vector, z85
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import TableLog, compact_once, create_table, snapshot
from neuralake.delta.actions import DeletionVector
from neuralake.delta.deletion_vector import deleted_rows, vector_file
from neuralake.errors import NeedsAttention, UnsupportedFeature
from neuralake.storage import MemoryStore, as_store

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.string())])


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "x": [f"x{i}" for i in ids]}, SCHEMA)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Ten rows in one file of a table where vectors are allowed."""
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, properties={"delta.enableDeletionVectors": "true"})
    TableLog.open(uri).append(rows(*range(10)))
    return uri


def test_a_table_that_allows_vectors_lists_the_feature(uri: str) -> None:
    protocol = snapshot(uri).state.protocol

    assert protocol.reader_features == protocol.writer_features == ["deletionVectors"]


@pytest.mark.parametrize("kind", ["inline", "relative", "prefixed", "absolute"])
def test_rows_of_a_vector_are_left_out_wherever_it_is_stored(uri: str, kind: str) -> None:
    deleted = [0, 3, 9]
    vector = {
        "inline": lambda: inline_vector(deleted),
        "relative": lambda: stored_vector(uri, deleted),
        "prefixed": lambda: stored_vector(uri, deleted, prefix="ab"),
        "absolute": lambda: stored_vector(uri, deleted, is_absolute=True),
    }[kind]()
    delete_rows(uri, snapshot(uri).files[0], vector)

    assert read_all(uri)["id"].to_pylist() == [1, 2, 4, 5, 6, 7, 8]
    assert snapshot(uri).rows == 7
    file = vector_file(vector, as_store(uri))
    assert (file is None) == (kind == "inline")
    assert file is None or Path(uri, file).is_file()


def test_polars_and_we_read_the_same_rows(uri: str) -> None:
    """An independent reader of the fixture: it is made as the protocol says."""
    delete_rows(uri, snapshot(uri).files[0], stored_vector(uri, [1, 5]))

    assert pl.scan_delta(uri).collect()["id"].to_list() == read_all(uri)["id"].to_pylist()


def test_the_inline_vector_of_delta_kernels_tests_is_read() -> None:
    vector = DeletionVector(
        storage_type="i",
        path_or_inline_dv="^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        size_in_bytes=44,
        cardinality=6,
    )

    assert [*deleted_rows(vector, MemoryStore(), path="f")] == [3, 4, 7, 11, 18, 29]


@settings(max_examples=examples(20), deadline=None)
@given(deleted=st.sets(st.integers(0, 2**31) | st.integers(2**31, 2**40), max_size=50))
def test_vectors_of_any_rows_are_read_back(deleted: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for vector in (inline_vector(sorted(deleted)), stored_vector(folder, sorted(deleted))):
            assert [*deleted_rows(vector, as_store(folder), path="f")] == sorted(deleted)


@settings(max_examples=examples(20), deadline=None)
@given(data=st.data())
def test_deleted_rows_are_left_out_of_every_batch(data: st.DataObject) -> None:
    """Also where a file is read in several batches: any rows, any file, in order."""
    count = data.draw(st.integers(1, 150_000))
    deleted = sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=30)))
    store = MemoryStore()
    create_table(store, SCHEMA, properties={"delta.enableDeletionVectors": "true"})
    log = TableLog.open(store)
    log.append(pa.table({"id": range(count), "x": ["x"] * count}, SCHEMA))
    vectored = replace(snapshot(store).files[0], deletion_vector=inline_vector(deleted))
    ids = [i for batch in log.files.read(vectored) for i in batch["id"].to_pylist()]

    gone = set(deleted)
    assert ids == [i for i in range(count) if i not in gone]


def test_an_append_beside_vectors_leaves_them_alone(uri: str) -> None:
    log = TableLog.open(uri)
    delete_rows(uri, snapshot(uri).files[0], inline_vector([0]))
    log.append(rows(10))

    assert sorted(read_all(uri)["id"].to_pylist()) == [*range(1, 11)]
    assert sorted(pl.scan_delta(uri).collect()["id"].to_list()) == [*range(1, 11)]


def test_a_compaction_drops_deleted_rows_and_their_vectors(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(10, 11))
    log.append(rows(12, 13))
    delete_rows(uri, snapshot(uri).files[0], stored_vector(uri, [0, 1]))
    delete_rows(uri, snapshot(uri).files[1], inline_vector([1]))
    left = [*range(2, 11), 12, 13]
    compact_once(uri, target_bytes=2**20, files_min=2)

    files = snapshot(uri).files
    assert [file.deletion_vector for file in files] == [None]
    assert sorted(read_all(uri)["id"].to_pylist()) == left
    assert sorted(pl.scan_delta(uri).collect()["id"].to_list()) == left


def test_two_vectors_of_one_file_are_never_both_in_force(uri: str) -> None:
    """Rows deleted later come with a vector that has the earlier ones, too."""
    delete_rows(uri, snapshot(uri).files[0], inline_vector([0]))
    delete_rows(uri, snapshot(uri).files[0], inline_vector([0, 1]))

    assert [file.live_rows for file in snapshot(uri).files] == [8]
    assert read_all(uri)["id"].to_pylist() == [*range(2, 10)]


def test_a_vector_that_is_damaged_or_missing_never_reads_as_nothing_deleted(uri: str) -> None:
    store = as_store(uri)
    vector = stored_vector(uri, [1, 2])
    name = vector_file(vector, store) or ""
    good = Path(uri, name).read_bytes()

    def damaged(data: bytes | None) -> NeedsAttention:
        Path(uri, name).unlink(missing_ok=True)
        if data is not None:
            Path(uri, name).write_bytes(data)
        with pytest.raises(NeedsAttention) as caught:
            deleted_rows(vector, store, path="f")
        return caught.value

    assert damaged(None).missing
    for place in range(len(good)):
        if not 1 <= place < (vector.offset or 0):  # Another vector is there.
            assert not damaged(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]).missing
    assert not damaged(good[:-1]).missing
    assert not damaged(b"").missing


@pytest.mark.parametrize(
    ("text", "size", "cardinality"),
    [
        (z85(bitmap([1])), len(bitmap([1])), 2),
        (z85(bitmap([1])), 4, 1),
        ("abc", 4, 1),
        ("\u00e4bcde", 4, 1),
        (z85(bitmap([1])[:-4]), len(bitmap([1])) - 4, 1),
    ],
    ids=["cardinality", "size", "length", "characters", "cut"],
)
def test_a_damaged_inline_vector_is_an_error(text: str, size: int, cardinality: int) -> None:
    vector = DeletionVector(
        storage_type="i", path_or_inline_dv=text, size_in_bytes=size, cardinality=cardinality
    )
    with pytest.raises(NeedsAttention, match="damaged"):
        deleted_rows(vector, MemoryStore(), path="f")


def test_a_vector_of_another_format_or_outside_the_table_is_refused_by_name(uri: str) -> None:
    old = b"\xd0\xd3\x39\x64" + bitmap([1])[4:]  # The magic number before: Java's own format.
    other = DeletionVector(
        storage_type="i", path_or_inline_dv=z85(old), size_in_bytes=len(old), cardinality=1
    )
    with pytest.raises(UnsupportedFeature, match="format"):
        deleted_rows(other, MemoryStore(), path="f")
    outside = DeletionVector(
        storage_type="p", path_or_inline_dv="/elsewhere/dv.bin", size_in_bytes=1, cardinality=1
    )
    with pytest.raises(UnsupportedFeature, match="not below the table"):
        deleted_rows(outside, as_store(uri), path="f")


def test_a_vector_about_rows_that_the_file_has_not_is_an_error(uri: str) -> None:
    delete_rows(uri, snapshot(uri).files[0], inline_vector([10]))

    with pytest.raises(NeedsAttention, match="names row 10"):
        read_all(uri)
