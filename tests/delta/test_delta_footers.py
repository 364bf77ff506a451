"""Footers that are read by their form say what they say when they are decoded field by field."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta.chunk_meta import Chunk
from neuralake.delta.parquet import Encoder
from neuralake.delta.row_groups import Footer, FooterReader, read_footer
from neuralake.delta.thrift import BINARY, I32, I64, LIST, STRUCT, TRUE, Struct, decode, encode
from neuralake.delta.thrift_forms import Form

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("value", pa.float64()),
        ("price", pa.decimal128(30, 2)),
        ("inner", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**63), 2**63 - 1),
        # Bounds of no byte, and those whose length takes two.
        "text": st.none() | st.text(max_size=3) | st.text("ab", min_size=120, max_size=300),
        "flag": st.none() | st.booleans(),
        "value": st.none() | st.floats(),
        "price": st.none() | st.integers(-99, 99),
        "inner": st.none()
        | st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.lists(st.text(max_size=2))}),
    }
)


def ours(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    Encoder(SCHEMA).encode_into(sink, [rows])
    return sink.getvalue()


def told(chunk: Chunk) -> tuple[object, ...]:
    """All that is known of a chunk; the numbers of unlike manners are not confused either."""
    manner = chunk.manner
    fields = (getattr(manner, name) for name in manner.__slots__)
    return (*fields, *chunk[1:])


def says(footer: Footer | None) -> object:
    if footer is None:
        return None
    chunks = [[told(chunk) for chunk in group] for group in footer.chunks]
    return footer.rows, footer.plain_bytes, footer.is_copyable(), chunks


def practised() -> FooterReader:
    """A reader that has learned the forms of our files."""
    reader = FooterReader()
    for count in range(40):
        assert reader.read(io.BytesIO(example(count))) is not None
    return reader


@cache
def example(count: int) -> bytes:
    rows = [
        {
            "id": n,
            "text": "x" * (n % 5),
            "flag": True,
            "value": 0.5,
            "price": n,
            "inner": {"a": n, "b": ["b" * n]},
        }
        for n in range(1, count + 2)
    ]
    return ours(pa.Table.from_pylist(rows, SCHEMA))


@settings(deadline=None, max_examples=examples(25))  # Machines are busy; time is not the claim.
@given(parts=st.lists(st.lists(ROW, max_size=20), min_size=1, max_size=6))
def test_a_reader_that_knows_the_forms_reads_what_another_decodes(
    parts: list[list[dict[str, object]]],
) -> None:
    reader = practised()
    for rows in parts:
        data = ours(pa.Table.from_pylist(rows, SCHEMA))
        known, decoded = reader.read(io.BytesIO(data)), read_footer(io.BytesIO(data))
        assert says(known) == says(decoded)
        assert known is not None
        assert decoded is not None
        assert known.is_kin(decoded)


def test_files_of_one_writer_share_what_they_have_in_common() -> None:
    """Without it every footer is decoded field by field, which takes ten times as long."""
    reader = practised()
    first, second = (reader.read(io.BytesIO(example(count))) for count in (30, 35))

    assert first is not None
    assert second is not None
    pairs = [*zip(first.chunks[0], second.chunks[0], strict=True)]
    assert len(pairs) == 7
    assert all(one.manner is other.manner for one, other in pairs)
    assert [one.values for one, _ in pairs] != [other.values for _, other in pairs]


@pytest.mark.parametrize("writer", ["with page indexes", "delta-rs", "Polars"])
def test_files_of_other_writers_share_it_too(writer: str, tmp_path: Path) -> None:
    """Where their indexes and filters lie is another place in each file."""

    def written(count: int) -> bytes:
        rows = pa.table({"id": range(count), "value": [n / 7 for n in range(count)]})
        path = tmp_path / f"{count}.parquet"
        if writer == "delta-rs":
            write_deltalake(tmp_path / str(count), rows)
            (path,) = (tmp_path / str(count)).glob("*.parquet")
        elif writer == "Polars":
            pl.DataFrame(rows).write_parquet(path)
        else:
            pq.write_table(rows, path, write_page_index=True)
        return path.read_bytes()

    reader = FooterReader()
    read = [reader.read(io.BytesIO(written(1000 + count))) for count in range(40)]

    *_, first, second = read
    assert first is not None
    assert second is not None
    assert all(
        one.manner is other.manner
        for one, other in zip(first.chunks[0], second.chunks[0], strict=True)
    )


def test_a_few_writers_are_remembered_at_once() -> None:
    """A stranger, or a damaged file, does not make the others strangers."""
    reader, ours = practised(), io.BytesIO(example(30))
    before = reader.read(ours)
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    reader.read(sink)
    after = reader.read(ours)

    assert before is not None
    assert after is not None
    assert all(
        one.manner is other.manner
        for one, other in zip(before.chunks[0], after.chunks[0], strict=True)
    )


@pytest.mark.parametrize("bound", [(I64, 10**10), (I32, 5), (STRUCT, {})])
def test_bounds_of_another_kind_are_no_bounds(bound: tuple[int, object]) -> None:
    """They ended a round of compaction, or took all memory."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": ["x", "y"]}), sink)
    data = sink.getvalue()
    length = int.from_bytes(data[-8:-4], "little")
    tree = decode(data[-8 - length : -8])
    chunk = tree[4][1][1][0][1][1][1][0]  # Row groups, columns.
    statistics = chunk[3][1][12][1]
    statistics[5] = statistics[6] = bound
    spelled = encode(tree)
    footer = read_footer(
        io.BytesIO(data[: -8 - length] + spelled + len(spelled).to_bytes(4, "little") + b"PAR1")
    )

    assert footer is not None
    ((found,),) = footer.chunks
    assert (found.low, found.high, found.nulls) == (None, None, 0)


def test_a_footer_that_was_read_for_merging_is_not_copied() -> None:
    footer = practised().read(io.BytesIO(example(20)))
    assert footer is not None
    with pytest.raises(KeyError):
        _ = footer.groups


@settings(deadline=None, max_examples=examples(25))
@given(flip=st.integers(0, 10**6), bit=st.integers(0, 7), count=st.integers(0, 39))
def test_damage_is_read_as_it_is_decoded(flip: int, bit: int, count: int) -> None:
    data = bytearray(example(count))
    data[len(data) - 9 - flip % int.from_bytes(data[-8:-4], "little")] ^= 1 << bit
    reader = practised()

    for each in (bytes(data), example(7), bytes(data), example(8)):
        assert says(reader.read(io.BytesIO(each))) == says(read_footer(io.BytesIO(each)))


def test_files_of_many_row_groups_and_of_other_writers_are_read_between_ours() -> None:
    reader, rows = practised(), pq.read_table(io.BytesIO(example(20)))
    sink = io.BytesIO()
    pq.write_table(rows, sink, row_group_size=3)
    assert says(reader.read(io.BytesIO(ours(SCHEMA.empty_table())))) is not None
    files = [example(3), sink.getvalue(), example(4), sink.getvalue(), sink.getvalue(), example(5)]

    for data in files:
        assert says(reader.read(io.BytesIO(data))) == says(read_footer(io.BytesIO(data)))


STRUCTURE: Struct = {
    1: (I32, 7),
    2: (TRUE, None),
    3: (STRUCT, {1: (I64, -5), 2: (BINARY, b"two\n"), 20: (BINARY, b"")}),
    4: (LIST, (I32, [1, 300])),
    5: (BINARY, b"passed over"),
}
VARIABLE = [(1,), (3, 1), (3, 2)]


@pytest.mark.parametrize("is_fixed", [True, False])
def test_a_form_reads_what_differs(*, is_fixed: bool) -> None:
    form = Form(encode(STRUCTURE), VARIABLE, [(5,)], is_fixed=is_fixed)
    assert form.paths == VARIABLE
    other = {**STRUCTURE, 1: (I32, -(2**31)), 5: (BINARY, b"PASSED OVER")}
    other[3] = (STRUCT, {**STRUCTURE[3][1], 1: (I64, 2**63 - 1), 2: (BINARY, b"\x00\x80()")})

    spelled = b"before" + encode(other) + b"after"
    assert form.read(spelled, 6) == ([-(2**31), 2**63 - 1, b"\x00\x80()"], len(spelled) - 5)
    longer = {**other, 5: (BINARY, b"p" * 200)}
    assert (form.read(encode(longer), 0) is None) == is_fixed


@pytest.mark.parametrize("is_fixed", [True, False])
def test_a_form_does_not_read_another(*, is_fixed: bool) -> None:
    form = Form(encode(STRUCTURE), VARIABLE, [(5,)], is_fixed=is_fixed)
    whole = encode(STRUCTURE)
    for change in (
        {2: (TRUE + 1, None)},
        {4: (LIST, (I32, [1, 301]))},
        {4: (LIST, (I32, [1]))},
        {6: (I32, 0)},
        {1: (I64, 7)},
    ):
        assert form.read(encode({**STRUCTURE, **change}), 0) is None
    for end in range(len(whole)):
        assert form.read(whole[:end], 0) is None


def test_what_is_spelled_otherwise_teaches_no_form() -> None:
    # A number in two bytes that fits into one.
    with pytest.raises(ValueError, match="spelled"):
        Form(b"\x15\x8e\x00\x00", [(1,)], is_fixed=True)
