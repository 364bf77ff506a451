"""Spark reads what we write and compact, and we what it writes; `make test-spark` runs this.

Spark (half a GiB) is fetched into `.services`, so these tests are no part of `make test-services`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta_tables import delete_rows, inline_vector, read_all
from every_type import COLUMNS, every_type
from service_builds import spark as built
from spark_child import READY, plain

from neuralake.delta import TableLog, chunks, compact_once, create_table, joining, pages, snapshot

CHILD = Path(__file__).parents[1] / "support" / "spark_child.py"
MIB = 2**20
# A name and what Spark calls it; of the other types it finds the type of a literal by itself.
CASTS = {"timestamp": "TIMESTAMP", "timestamp_ntz": "TIMESTAMP_NTZ", "date": "DATE"}


class Spark:
    """One session."""

    def __init__(self) -> None:
        python, jars = built()
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(CHILD), str(jars)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._answer() == READY

    def rows(self, uri: str) -> Any:
        """All of a table, by their `id`."""
        return self.sql(f"SELECT * FROM delta.`{uri}` ORDER BY id")  # noqa: S608 ours

    def sql(self, statement: str) -> Any:
        """Its rows, each value as `plain` has it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(statement) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert isinstance(answer, list), (statement, answer)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "Spark ended"
        return json.loads(line)


@pytest.fixture(scope="module")
def spark() -> Iterator[Spark]:
    session = Spark()
    yield session
    session.close()


@pytest.fixture
def everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every type, spliced from pages of a file for each row; two row groups."""
    uri, rows = str(tmp_path / "table"), every_type()
    create_table(uri, rows.schema)
    log = TableLog.open(uri)
    for place in (0, 3, 1, 2):
        log.append(rows.slice(place, 1))
    monkeypatch.setattr(joining, "_COPIED_SHARE_MIN", 0.0001)
    monkeypatch.setattr(chunks, "_LIGHT_PAGE_VALUES_MIN", 1)
    monkeypatch.setattr(pages, "_ROWS_MAX", 2)
    compact_once(uri, target_bytes=128 * MIB, files_min=2)
    (file,) = snapshot(uri).files
    assert pq.read_metadata(Path(uri, file.path)).num_row_groups == 2
    return uri


def test_every_type_is_read_from_pages_laid_end_to_end(spark: Spark, everything: str) -> None:
    """By both of Spark's Parquet readers."""
    rows = [plain(row) for row in every_type().to_pylist()]

    for is_vectorized in ("false", "true"):
        spark.sql(f"SET spark.sql.parquet.enableVectorizedReader = {is_vectorized}")
        assert spark.rows(everything) == rows


def test_spark_skips_nothing_that_it_should_find(spark: Spark, everything: str) -> None:
    """By the bounds of files and row groups: at the least value, the greatest, and for null."""
    asked: list[str] = []
    wanted: list[int] = []
    for name, (kind, values) in COLUMNS.items():
        asked.append(f"`{name}` IS NULL")
        wanted.append(1)
        if pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_binary(kind):
            continue
        low, high = (_literal(name, value) for value in (min(values), max(values)))
        asked += [f"`{name}` = {low}", f"`{name}` < {high}", f"`{name}` >= {high}"]
        highest = values.count(max(values))
        wanted += [values.count(min(values)), len(values) - highest, highest]

    found = (spark.sql(f"SELECT id FROM delta.`{everything}` WHERE {each}") for each in asked)  # noqa: S608 ours
    assert dict(zip(asked, map(len, found), strict=True)) == dict(zip(asked, wanted, strict=True))


def _literal(name: str, value: Any) -> str:
    if name in CASTS:
        return f"CAST('{value.isoformat()}' AS {CASTS[name]})"
    return f"'{value}'" if isinstance(value, str) else str(value)


@pytest.mark.parametrize("mode", ["none", "name", "id"])
def test_a_table_of_all_our_features_is_read(spark: Spark, tmp_path: Path, mode: str) -> None:
    """Required columns, mapped ones, wall clocks, deleted rows; before and after compaction."""
    uri = str(tmp_path / "table")
    inner = pa.struct([pa.field("x", pa.int8(), nullable=False)])
    schema = pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            ("p", pa.string()),
            ("wall", pa.timestamp("us")),
            ("inner", inner),
        ]
    )
    properties = {"delta.enableDeletionVectors": "true", "delta.columnMapping.mode": mode}
    create_table(uri, schema, partition_by=["p"], properties=properties)
    log = TableLog.open(uri)
    rows = [
        {"id": i, "p": ["a b/ü%", None][i % 2], "wall": None, "inner": [None, {"x": i}][i // 3]}
        for i in range(6)
    ]
    for part in (rows[:3], rows[3:]):
        log.append(pa.Table.from_pylist(part, schema))
    files = snapshot(uri).files
    held = next(file for file in files if file.rows == 2)
    delete_rows(uri, held, inline_vector([1]))
    kept = [plain(row) for row in sorted(_rows(uri), key=lambda row: row["id"])]
    assert len(kept) == 5

    assert spark.rows(uri) == kept
    compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert spark.rows(uri) == kept


def _rows(uri: str) -> list[dict[str, Any]]:
    log = TableLog.open(uri)
    return [
        {"id": row["id"], "p": file.partition["p"], "wall": row["wall"], "inner": row["inner"]}
        for file in snapshot(uri).files
        for batch in log.files.read(file)
        for row in batch.to_pylist()
    ]


def test_what_spark_appends_is_compacted_with_ours(spark: Spark, tmp_path: Path) -> None:
    """Its INT96 times and dictionaries, copied where they are large and encoded where small."""
    uri, count = str(tmp_path / "table"), 20_000
    schema = pa.schema(
        [("id", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("s", pa.string())]
    )
    create_table(uri, schema)
    for begin in range(0, 4 * count, count):
        spark.sql(
            f"INSERT INTO delta.`{uri}` SELECT /*+ COALESCE(1) */ id, timestamp_millis(id), "  # noqa: S608 ours
            f"if(id % 7 = 0, NULL, sha2(string(id), 256)) FROM range({begin}, {begin + count})"
        )
    before = pl.scan_delta(uri).sort("id").collect()
    assert before["id"].to_list() == [*range(4 * count)]
    sums = f"SELECT count(*), sum(id), sum(hash(at)), sum(hash(s)) FROM delta.`{uri}`"  # noqa: S608 ours
    wanted = spark.sql(sums)

    compact_once(uri, target_bytes=128 * MIB, files_min=2)
    (file,) = snapshot(uri).files
    footer = pq.read_metadata(Path(uri, file.path))
    assert footer.num_row_groups == 4, "they were copied"
    assert footer.metadata[b"org.apache.spark.version"].startswith(b"4.")
    assert spark.sql(sums) == wanted
    TableLog.open(uri).append(pa.table({"id": [-1], "at": [None], "s": [None]}, schema))
    for number in range(2):
        spark.sql(f"INSERT INTO delta.`{uri}` VALUES (-2 - {number}, NULL, 'x')")  # noqa: S608 ours
    compact_once(uri, target_bytes=128 * MIB, files_min=2)
    assert read_all(uri).num_rows == 4 * count + 3
    assert pl.scan_delta(uri).filter(pl.col("id") >= 0).sort("id").collect().equals(before)
    assert spark.sql(f"{sums} WHERE id >= 0") == wanted
