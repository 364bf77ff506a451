"""Compaction of files of one writer: their pages are laid end to end, and no row changes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from delta_tables import delete_rows, inline_vector, read_all
from deltalake import DeltaTable, Field, QueryBuilder
from deltalake.schema import PrimitiveType
from parquet_files import described, pages_of, parquet, table_of

from neuralake.delta import TableLog, compact_once, create_table, pages, snapshot
from neuralake.delta.thrift import I32, Struct

MIB = 2**20
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
