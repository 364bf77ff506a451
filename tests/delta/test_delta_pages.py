"""Row groups whose pages are laid end to end are the same rows to every reader; bounds are true."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_files import described, footer, pages_of, parquet

from neuralake.delta.pages import Pages
from neuralake.delta.row_groups import Joiner, read_footer
from neuralake.delta.thrift import FALSE, TRUE, Struct

MIB = 2**20
MERGEABLE = pa.schema(
    [
        ("id", pa.int64()),
        ("small", pa.int16()),
        ("flag", pa.bool_()),
        ("value", pa.float64()),
        ("day", pa.date32()),
        ("price", pa.decimal128(9, 2)),
        ("large", pa.decimal128(30, 2)),
        ("inner", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int64()))])),
    ]
)
WHOLE = pa.schema([*MERGEABLE, ("name", pa.string()), ("tags", pa.list_(pa.string()))])
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**63), 2**63 - 1),
        "small": st.none() | st.integers(-(2**15), 2**15 - 1),
        "flag": st.none() | st.booleans(),
        "value": st.none() | st.floats(),
        "day": st.none() | st.dates(),
        "price": st.none() | st.integers(-(10**9) + 1, 10**9 - 1).map(lambda n: Decimal(n) / 100),
        "large": st.none() | st.integers(-(10**20), 10**20).map(lambda n: Decimal(n).scaleb(-2)),
        "inner": st.none()
        | st.fixed_dictionaries(
            {
                "a": st.none() | st.integers(-9, 9),
                "b": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
            }
        ),
        "name": st.none() | st.text(max_size=5),
        "tags": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
    }
)
PARTS = st.lists(st.lists(ROW, min_size=1, max_size=20), min_size=1, max_size=5)


def laid_end_to_end(files: Sequence[bytes], recoded: bytes | None) -> bytes:
    anew = [] if recoded is None else [pages_of([recoded])]
    sink = io.BytesIO()
    joiner = Joiner(sink)
    for _ in range(2):  # The second is not at the beginning of the file.
        gathered = pages_of(files)
        made = gathered.merged(anew, joiner.size_bytes)
        joiner.add_group(gathered.first, made.group, made.chunks, made.rows)
    joiner.close()
    return sink.getvalue()


@settings(deadline=None, max_examples=examples(25))  # Machines are busy; time is not the claim.
@given(parts=PARTS, size=st.integers(1, 25), page_bytes=st.sampled_from([1, 2**20]))
def test_every_reader_sees_the_same_rows_in_the_same_order(
    parts: list[list[dict[str, object]]], size: int, page_bytes: int
) -> None:
    """Several pages a chunk, several row groups a file, dictionaries where they were made anew."""
    tables = [pa.Table.from_pylist(rows, WHOLE) for rows in parts]
    files = [
        parquet(
            table,
            row_group_size=size,
            data_page_size=page_bytes,
            use_dictionary=["name", "tags.list.element"],
            compression="zstd",
        )
        for table in tables
    ]
    whole = pa.concat_tables(tables)
    data = laid_end_to_end(files, parquet(whole.select(["name", "tags"])))

    twice = pa.concat_tables([whole, whole])
    assert str(pq.read_table(io.BytesIO(data)).to_pylist()) == str(twice.to_pylist())
    assert pl.read_parquet(data).equals(pl.DataFrame(twice), null_equal=True)


@settings(deadline=None, max_examples=examples(25))  # Machines are busy; time is not the claim.
@given(parts=PARTS, size=st.integers(1, 25))
def test_bounds_are_those_of_all_rows_or_absent(
    parts: list[list[dict[str, object]]], size: int
) -> None:
    tables = [pa.Table.from_pylist(rows, WHOLE).select(MERGEABLE.names) for rows in parts]
    options = {"use_dictionary": False, "compression": "zstd"}
    data = laid_end_to_end(
        [parquet(table, row_group_size=size, **options) for table in tables], None
    )

    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    at_once = pq.read_metadata(io.BytesIO(parquet(pa.concat_tables(tables), **options))).row_group(
        0
    )
    assert group.num_rows == at_once.num_rows
    is_one_chunk = len(tables) == 1 and len(tables[0]) <= size
    for i in range(group.num_columns):
        column, wanted = group.column(i), at_once.column(i)
        assert column.num_values == wanted.num_values
        assert column.statistics.null_count == wanted.statistics.null_count
        if column.physical_type == "DOUBLE":
            assert not column.statistics.has_min_max or is_one_chunk
        else:
            assert column.statistics.has_min_max == wanted.statistics.has_min_max
            assert column.statistics.min == wanted.statistics.min, column.path_in_schema
            assert column.statistics.max == wanted.statistics.max, column.path_in_schema


def _without_converted_types(tree: Struct) -> None:
    for element in tree[2][1][1]:
        element.pop(6, None)


@pytest.mark.parametrize("change", [lambda _: None, _without_converted_types])
def test_unsigned_numbers_have_no_bounds(change: Callable[[Struct], object]) -> None:
    """As signed numbers they would be in another order; the older name of the type is optional."""
    tables = [pa.table({"n": pa.array([n], pa.uint64())}) for n in (1, 2**64 - 1)]
    files = [described(parquet(table, use_dictionary=False), change) for table in tables]
    data = laid_end_to_end(files, None)

    assert not pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).statistics.has_min_max
    assert pq.read_table(io.BytesIO(data))["n"].to_pylist() == [1, 2**64 - 1] * 2


def test_signed_numbers_have_bounds_without_the_older_name_of_their_type() -> None:
    tables = [pa.table({"n": pa.array([n], pa.int16())}) for n in (-1, 1)]
    files = [parquet(table, use_dictionary=False) for table in tables]
    data = laid_end_to_end([described(each, _without_converted_types) for each in files], None)

    statistics = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == (-1, 1)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ((TRUE, TRUE), TRUE),
        ((TRUE, FALSE), FALSE),
        ((FALSE, None), FALSE),
        ((TRUE, None), None),
        ((None, None), None),
    ],
)
def test_bounds_of_which_one_was_cut_are_not_taken_for_values(
    parts: Sequence[int | None], whole: int | None
) -> None:
    """A reader may answer `min` by a bound that does not say that it is none."""
    files = []
    for number, kind in enumerate(parts):

        def tell(tree: Struct, kind: int | None = kind) -> None:
            statistics = tree[4][1][1][0][1][1][1][0][3][1][12][1]
            for field in (7, 8):
                statistics.pop(field, None)
                if kind is not None:
                    statistics[field] = (kind, None)

        rows = pa.table({"text": [f"text {number}"]})
        files.append(described(parquet(rows, use_dictionary=False), tell))
    tree = footer(laid_end_to_end(files, None)).tree

    statistics = tree[4][1][1][0][1][1][1][0][3][1][12][1]
    wanted = None if whole is None else (whole, None)
    assert (statistics.get(7), statistics.get(8)) == (wanted, wanted)


def test_what_does_not_fit_together_is_refused() -> None:
    rows = pa.table({"n": [1, 2], "text": ["x", "y"]})
    plain = parquet(rows, use_dictionary=False)
    texts = parquet(rows.select(["text"]))

    for files, recoded in (
        ([parquet(rows), parquet(rows.slice(1))], None),
        ([plain, plain], texts),
        ([plain, parquet(rows, use_dictionary=False, compression="zstd")], texts),
        ([plain, parquet(rows)], parquet(pa.concat_tables([rows, rows]).select(["text"]))),
        ([plain], parquet(rows.select(["text"]), row_group_size=1)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 each has a sentence of its own
            laid_end_to_end(files, recoded)


def test_equal_dictionaries_serve_all_pages(tmp_path: Path) -> None:
    rows = pa.table({"n": [1, 2, 1, 2], "text": ["x", "y", "y", "x"]})
    files = [parquet(rows), parquet(pa.concat_tables([rows, rows])), parquet(rows[:2])]
    data = laid_end_to_end(files, None)

    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    assert all(group.column(i).has_dictionary_page for i in range(2))
    assert group.column(1).statistics.max == "y"
    parts = sum(
        pq.read_metadata(io.BytesIO(each)).row_group(0).column(1).total_uncompressed_size
        for each in files
    )
    assert group.column(1).total_uncompressed_size < parts
    whole = [*rows["text"], *rows["text"], *rows["text"], *rows["text"][:2]] * 2
    assert pq.read_table(io.BytesIO(data))["text"].to_pylist() == [each.as_py() for each in whole]
    assert pl.read_parquet(data)["text"].to_list() == [each.as_py() for each in whole]
    Path(tmp_path / "one.parquet").write_bytes(data)
    kept = ds.dataset(tmp_path / "one.parquet").to_table(filter=ds.field("text") == "y")
    assert kept["text"].to_pylist() == [each.as_py() for each in whole if each.as_py() == "y"]


@settings(deadline=None, max_examples=examples(25))
@given(flip=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_damaged_footer_is_refused_or_stays_inside_its_file(flip: int, bit: int) -> None:
    rows = pa.table({"a": [1, 2], "b": [{"c": True, "d": [1]}, None]})
    good = parquet(rows, use_dictionary=False)
    data = bytearray(good)
    at = len(data) - 9 - flip % int.from_bytes(data[-8:-4], "little")
    data[at] ^= 1 << bit
    found = read_footer(io.BytesIO(data))
    if found is None or not found.is_copyable():
        return
    try:
        both = Pages(footer(good))
        both.add("", footer(good), good)
        if not found.is_kin(both.first):
            return
        both.add("", found, bytes(data))
        made = both.merged([], 4)
    except ValueError:
        return
    assert sum(map(len, made.chunks)) <= 4 * len(data)
