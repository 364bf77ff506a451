"""Row groups whose pages are laid end to end are the same rows to every reader; bounds are true."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from delta_tables import delete_rows, inline_vector, put_entry, read_all
from deltalake import DeltaTable, Field, QueryBuilder
from deltalake.schema import PrimitiveType
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import TableLog, compact_once, create_table, pages, snapshot
from neuralake.delta.actions import Add
from neuralake.delta.pages import Pages
from neuralake.delta.row_groups import Footer, Joiner, read_footer
from neuralake.delta.thrift import FALSE, I32, TRUE, Struct, encode

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


def parquet(rows: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, store_schema=False, **options)
    return sink.getvalue()


def footer(data: bytes) -> Footer:
    found = read_footer(io.BytesIO(data))
    assert found is not None
    return found


def described(data: bytes, change: Callable[[Struct], object]) -> bytes:
    """A file whose footer was changed."""
    tree = footer(data).tree
    change(tree)
    changed, before = encode(tree), int.from_bytes(data[-8:-4], "little")
    return data[: -8 - before] + changed + len(changed).to_bytes(4, "little") + data[-4:]


def table_of(uri: str, schema: pa.Schema, files: Sequence[bytes], rows: int) -> None:
    """A table of files of another writer, of so many rows each."""
    create_table(uri, schema)
    adds = []
    for number, data in enumerate(files):
        Path(uri, f"{number}.parquet").write_bytes(data)
        add = Add(
            path=f"{number}.parquet",
            partition_values={},
            size=len(data),
            modification_time=number,
            data_change=True,
            stats=f'{{"numRecords":{rows}}}',
        )
        adds.append(add)
    put_entry(uri, snapshot(uri).version + 1, adds)


def pages_of(files: Sequence[bytes]) -> Pages:
    found = Pages(footer(files[0]))
    for data in files:
        found.add("", footer(data), data)
    return found


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


# A table of files that are written by the engine itself: large enough for pages of their own.
ROWS = 6_000
SCHEMA = pa.schema(
    [
        ("p", pa.string()),
        ("id", pa.int64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("noise", pa.float64()),
        ("price", pa.decimal128(12, 2)),
        ("note", pa.string()),
    ]
)


def batch(number: int) -> pa.Table:
    ids = pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())
    noise = pc.random(ROWS, initializer=number)
    return pa.table(
        {
            "p": pa.repeat("a", ROWS),
            "id": pc.if_else(pc.equal(pc.bit_wise_and(ids, 1023), 7), None, ids),
            "time": pc.multiply(ids, 500).cast(pa.timestamp("us", tz="UTC")),
            "noise": noise,
            "price": ids.cast(pa.int32()).cast(pa.decimal128(12, 2)),
            "note": pc.binary_join_element_wise("n", pc.divide(ids, 500).cast(pa.string()), "-"),
        }
    ).cast(SCHEMA)


def made(uri: str, count: int = 5, **options: object) -> pa.Table:
    create_table(uri, SCHEMA, partition_by=["p"], **options)  # type: ignore[arg-type]  # Properties.
    log, batches = TableLog.open(uri), [batch(number) for number in range(count)]
    for rows in batches:
        log.append(rows)
    return pa.concat_tables(batches)


def chunks_of(uri: str, column: int) -> list[bytes]:
    """The bytes of a column's chunks, file by file in commit order."""
    found = []
    for file in snapshot(uri).files:
        path = Path(uri, file.path)
        data = path.read_bytes()
        for group in range(pq.read_metadata(path).num_row_groups):
            meta = pq.read_metadata(path).row_group(group).column(column)
            start = meta.data_page_offset
            found.append(data[start : start + meta.total_compressed_size])
    return found


@pytest.mark.parametrize("mode", ["none", "name", "id"])
def test_compaction_lays_small_files_end_to_end_and_changes_no_row(
    tmp_path: Path, mode: str
) -> None:
    uri = str(tmp_path / "t")
    properties = {"delta.columnMapping.mode": mode} if mode != "none" else {}
    rows = made(uri, properties=properties)
    noise = chunks_of(uri, 2)

    done = compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert (done.files_removed, done.files_added, done.rows) == (5, 1, len(rows))
    assert read_all(uri).equals(rows.drop_columns(["p"])), "in the order of their commits"
    (file,) = snapshot(uri).files
    meta = pq.read_metadata(Path(uri, file.path))
    assert meta.num_row_groups == 1
    assert chunks_of(uri, 2) == [b"".join(noise)], "numbers were not decoded"
    text = meta.row_group(0).column(4)
    assert text.has_dictionary_page
    assert (text.statistics.min, text.statistics.max) == ("n-0", "n-9")
    assert compact_once(uri, target_bytes=128 * MIB, files_min=2).files_removed == 0


def test_texts_in_pages_of_a_fair_size_are_not_decoded(tmp_path: Path) -> None:
    """800 texts of 16 letters, as a writer commits them several times a second."""
    uri = str(tmp_path / "t")
    schema = pa.schema([("text", pa.string()), ("few", pa.int64()), ("long", pa.string())])
    create_table(uri, schema)
    log, batches = TableLog.open(uri), []
    for number in range(4):
        ids = range(number * 800, number * 800 + 800)
        texts, long = [f"{n * 7919:016}" for n in ids], [f"{n:0100}" for n in ids]
        batches.append(pa.table({"text": texts, "few": ids, "long": long}, schema))
        log.append(batches[-1])
    parts, few = chunks_of(uri, 0), chunks_of(uri, 1)

    compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert read_all(uri).equals(pa.concat_tables(batches))
    assert chunks_of(uri, 0) == [b"".join(parts)], "texts were not decoded"
    assert chunks_of(uri, 1) != [b"".join(few)], "800 numbers are too few for a page"


def test_other_engines_read_and_skip_as_before(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    rows = made(uri)
    compact_once(uri, target_bytes=128 * MIB, files_min=2)

    for low in (0, ROWS - 1, 4 * ROWS, 5 * ROWS):
        wanted = rows.filter((pc.field("id") >= low) & (pc.field("note") != "n-3"))
        count, total = len(wanted), pc.sum(wanted["id"]).as_py()
        polars = pl.scan_delta(uri).filter(pl.col("id") >= low, pl.col("note") != "n-3")
        assert polars.select(pl.len(), pl.col("id").sum()).collect().row(0) == (count, total or 0)
        found = ds.dataset(Path(uri, snapshot(uri).files[0].path)).to_table(
            filter=(ds.field("id") >= low) & (ds.field("note") != "n-3")
        )
        assert found.equals(wanted.drop_columns(["p"]).cast(found.schema))
        sql = QueryBuilder().register("t", DeltaTable(uri))
        condition = f"id >= {low} AND note <> 'n-3'"
        answer = sql.execute("SELECT count(*) AS n, sum(id) AS s FROM t WHERE " + condition)  # noqa: S608 ours
        assert pa.table(answer.read_all()).to_pylist() == [{"n": count, "s": total}]


def test_the_log_bounds_what_the_file_holds(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    made(uri)
    before = {file.path for file in snapshot(uri).files}
    compact_once(uri, target_bytes=128 * MIB, files_min=2)

    (file,) = snapshot(uri).files
    assert file.path not in before
    assert file.rows == 5 * ROWS
    stats = file.stats or ""
    assert '"id":0' in stats
    assert f'"id":{5 * ROWS - 1}' in stats


def test_a_file_that_does_not_fit_in_is_decoded_with_its_neighbours(tmp_path: Path) -> None:
    """A deletion vector, and a column that came later: the rows are what they were."""
    uri = str(tmp_path / "t")
    made(uri, properties={"delta.enableDeletionVectors": "true"})
    files = snapshot(uri).files
    delete_rows(uri, files[2], inline_vector([0, 5, ROWS - 1]))
    DeltaTable(uri).alter.add_columns([Field("more", PrimitiveType("integer"))])
    before = read_all(uri)

    done = compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert done.rows == 5 * ROWS - 3
    assert read_all(uri).equals(before)


def test_texts_that_differ_in_every_row_are_kept(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    create_table(uri, pa.schema([("id", pa.int64()), ("text", pa.string())]))
    log = TableLog.open(uri)
    for number in range(4):
        ids = range(number * ROWS, (number + 1) * ROWS)
        log.append(pa.table({"id": ids, "text": [None if i % 9 == 0 else f"{i:x}" for i in ids]}))
    before = read_all(uri)
    compact_once(uri, target_bytes=128 * MIB, files_min=2)

    assert len(snapshot(uri).files) == 1
    assert read_all(uri).equals(before)


def test_each_file_is_made_use_of_as_far_as_its_size_allows(tmp_path: Path) -> None:
    """One that is copied, some whose pages are, and some that are too small for either."""
    uri = str(tmp_path / "t")
    create_table(uri, SCHEMA, partition_by=["p"])
    log = TableLog.open(uri)
    large = pa.concat_tables([batch(number) for number in range(12, 24)])
    parts = [batch(0), batch(1), batch(2)[:10], batch(3)[:10], batch(4), large, batch(5)]
    for rows in parts:
        log.append(rows)
    sizes = [file.bytes for file in snapshot(uri).files]
    assert sizes[5] > MIB // 2 > sizes[4] > sizes[3]
    compact_once(uri, target_bytes=128 * MIB, files_min=2)

    (file,) = snapshot(uri).files
    meta = pq.read_metadata(Path(uri, file.path))
    groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    assert groups == [2 * ROWS, 20, ROWS, 12 * ROWS, ROWS]
    assert read_all(uri).equals(pa.concat_tables(parts).drop_columns(["p"]))


def test_a_row_group_holds_no_more_than_fits_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds in bytes before compression and in rows; the rest goes into the next row group."""
    for name, bound, groups in (("_ROWS_MAX", 2 * ROWS, 3), ("_BYTES_MAX", 1, 5)):
        uri = str(tmp_path / name)
        rows = made(uri)
        with monkeypatch.context() as patch:
            patch.setattr(pages, name, bound)
            compact_once(uri, target_bytes=128 * MIB, files_min=2)
        (file,) = snapshot(uri).files
        assert pq.read_metadata(Path(uri, file.path)).num_row_groups == groups
        assert read_all(uri).equals(rows.drop_columns(["p"]))


@pytest.mark.parametrize("count", [600, 12_000])
def test_files_that_do_not_name_their_writer_are_decoded(tmp_path: Path, count: int) -> None:
    """That field is optional; pages below a size that is read well, and above it."""
    uri = str(tmp_path / "t")
    rows = pa.table({"id": range(count), "text": [f"x{number}" for number in range(count)]})
    data = described(parquet(rows, use_dictionary=False), lambda tree: tree.pop(6))
    table_of(uri, rows.schema, [data] * 3, count)

    assert compact_once(uri, target_bytes=128 * MIB, files_min=2).files_added == 1
    assert read_all(uri).equals(pa.concat_tables([rows] * 3))


def _without_dictionary(tree: Struct) -> None:
    """The data pages begin at the dictionary, and no encoding tells that it is one."""
    for group in tree[4][1][1]:
        for chunk in group[1][1][1]:
            meta = chunk[3][1]
            meta[9] = meta.pop(11)
            meta[2] = (meta[2][0], (I32, [0, 3]))


def test_a_dictionary_that_the_footer_does_not_mention_is_found(tmp_path: Path) -> None:
    uri, count = str(tmp_path / "t"), 6_000
    parts = [pa.table({"text": ["a", "b", "c", last] * (count // 4)}) for last in (None, "b")]
    files = [described(parquet(rows), _without_dictionary) for rows in parts]
    assert pages_of(files).recipe().joined == ()
    assert pages_of([parquet(rows, use_dictionary=False) for rows in parts]).recipe().joined
    table_of(uri, parts[0].schema, files, count)

    compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert len(snapshot(uri).files) == 1
    assert read_all(uri).equals(pa.concat_tables(parts))
