"""A plan never loses, doubles or reorders a file, and keeps both files and rewrites few."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from neuralake.delta import DataFile
from neuralake.delta.actions import DeletionVector
from neuralake.delta.clustering import CLUSTERED_BY
from neuralake.delta.plan import Bin, files_max, in_commit_order, plan, shares

TARGET = 1_000_000


def file(
    number: int, size: int, *, partition: str = "a", rows: int = 100, dead: int = 0, tag: str = ""
) -> DataFile:
    vector = DeletionVector(
        storage_type="i", path_or_inline_dv="x", size_in_bytes=1, cardinality=dead
    )
    return DataFile(
        path=f"f{number}",
        partition={"p": partition},
        bytes=size,
        rows=rows,
        modified_s=float(number),
        deletion_vector=vector if dead else None,
        tags={CLUSTERED_BY: tag} if tag else None,
    )


def names(bins: list[Bin]) -> list[list[str]]:
    return [[each.path for each in packed.files] for packed in bins]


tables = st.lists(
    st.tuples(st.integers(1, 2000), st.sampled_from("ab"), st.sampled_from([0, 0, 0, 5, 50, 100])),
    max_size=60,
)


@given(table=tables, target=st.integers(16, 2000), files_min=st.integers(2, 5), data=st.data())
def test_a_plan_joins_neighbours_of_a_partition_each_file_once_and_fills_none_too_much(
    table: list[tuple[int, str, int]], target: int, files_min: int, data: st.DataObject
) -> None:
    files = [
        file(i, size, partition=partition, dead=dead)
        for i, (size, partition, dead) in enumerate(table)
    ]
    shuffled = data.draw(st.permutations(files))
    bins = plan(shuffled, target_bytes=target, files_min=files_min)

    assert bins == plan(files, target_bytes=target, files_min=files_min), "by the log's order only"
    for packed in bins:
        members = [each for each in files if each.partition == packed.partition]
        first = members.index(packed.files[0])
        assert list(packed.files) == members[first : first + len(packed.files)]
        if len(packed.files) == 1:
            assert packed.files[0].deletion_vector, "nothing else is rewritten alone"
        else:
            assert sum(weight(each) for each in packed.files) <= target * 1.000001
    chosen = [each.path for packed in bins for each in packed.files]
    assert len(chosen) == len(set(chosen))


def weight(each: DataFile) -> float:
    assert each.live_rows is not None
    assert each.rows
    return each.bytes * each.live_rows / each.rows


def test_good_files_are_left_alone_and_part_the_small_ones() -> None:
    files = [file(i, size) for i, size in enumerate([10, 10, 600_000, 20, 20, 900_000, 30])]

    bins = plan(files, target_bytes=TARGET, files_min=2)
    assert names(bins) == [["f0", "f1"], ["f3", "f4"]]


def test_a_file_waits_until_the_newer_ones_weigh_as_much() -> None:
    large = file(0, 200_000)
    newer = [file(i, 40_000) for i in range(1, 5)]

    assert names(plan([large, *newer], target_bytes=TARGET, files_min=2)) == [
        ["f1", "f2", "f3", "f4"]
    ]
    newer.append(file(5, 40_000))
    assert names(plan([large, *newer], target_bytes=TARGET, files_min=2)) == [
        ["f0", "f1", "f2", "f3", "f4", "f5"]
    ]


def test_fewer_small_files_than_asked_for_wait() -> None:
    files = [file(i, 10) for i in range(3)]

    assert plan(files, target_bytes=TARGET, files_min=4) == []
    assert len(plan([*files, file(3, 10)], target_bytes=TARGET, files_min=4)) == 1


def test_deleted_rows_go_where_they_are_many_or_the_file_is_small() -> None:
    """A good file with few deleted rows is not worth 900 kB of writing."""
    few, many, small = file(0, 900_000, dead=5), file(1, 900_000, dead=10), file(2, 10, dead=1)

    assert names(plan([few], target_bytes=TARGET, files_min=4)) == []
    assert names(plan([many], target_bytes=TARGET, files_min=4)) == [["f1"]]
    assert names(plan([small], target_bytes=TARGET, files_min=4)) == [["f2"]]


def test_a_file_that_is_mostly_deleted_is_joined_as_the_small_one_that_it_is() -> None:
    files = [file(0, 900_000, dead=99), file(1, 9_000), file(2, 9_000), file(3, 9_000)]

    assert names(plan(files, target_bytes=TARGET, files_min=4)) == [["f0", "f1", "f2", "f3"]]


def test_a_full_file_is_sorted_once() -> None:
    files = [file(0, 900_000), file(1, 900_000, tag='["b"]'), file(2, 900_000, tag='["a"]')]

    bins = plan(files, target_bytes=TARGET, files_min=2, clustering='["a"]')
    assert names(bins) == [["f0"], ["f1"]], "the third is sorted so, the second otherwise"
    assert plan(files, target_bytes=TARGET, files_min=2) == [], "the table asks for none"


@given(sizes=st.lists(st.integers(1, 10_000), max_size=60), bytes_max=st.integers(1, 30_000))
def test_shares_hold_each_bin_once_in_order_and_little_beyond_the_limit(
    sizes: list[int], bytes_max: int
) -> None:
    bins = [Bin((file(i, size),)) for i, size in enumerate(sizes)]
    groups = list(shares(bins, bytes_max=bytes_max))

    assert [packed for group in groups for packed in group] == bins
    for group in groups:
        assert len(group) == 1 or sum(packed.bytes for packed in group) <= bytes_max


rounds = st.lists(st.lists(st.integers(100, 3000), max_size=12), min_size=1, max_size=120)


@given(rounds=rounds, files_min=st.integers(2, 5))
def test_under_continuous_ingest_files_stay_few_and_a_row_is_rewritten_o_log_times(
    rounds: list[list[int]], files_min: int
) -> None:
    """Rounds of small files of any size, with the plan carried out after each."""
    target = 200_000
    files: list[DataFile] = []
    rewrites: dict[str, list[tuple[int, int]]] = {}  # Of each file: rows' (size, rewrites).
    number = 0
    for sizes in rounds:
        for size in sizes:
            files.append(file(number, size))
            rewrites[f"f{number}"] = [(size, 0)]
            number += 1
        for packed in plan(files, target_bytes=target, files_min=files_min):
            at = files.index(packed.files[0])
            rows = [row for each in packed.files for row in rewrites.pop(each.path)]
            joined = DataFile(
                packed.files[-1].path,
                {"p": "a"},
                sum(each.bytes for each in packed.files),
                100,
                packed.files[-1].modified_s,
            )
            rewrites[joined.path] = [(size, times + 1) for size, times in rows]
            files[at : at + len(packed.files)] = [joined]

        assert files == in_commit_order(files)
        full = sum(2 * each.bytes > target for each in files)
        small = len(files) - full
        assert small <= files_max(target_bytes=target, files_min=files_min, bytes_min=100)
    written = [size for sizes in rounds for size in sizes]
    assert sorted(size for rows in rewrites.values() for size, _ in rows) == sorted(written)
    # After the first, each at least doubles the file, or adds a quarter to one of at most 1/64.
    most = 1 + math.log(max(1, target / 64 / 100), 1.25) + math.log2(64) + 1
    assert all(times <= most for rows in rewrites.values() for _, times in rows)
