"""Rows that another engine deleted by vectors stay deleted, however SQL reads the files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from delta_tables import delete_rows, inline_vector

import neuralake as nl
from neuralake import delta
from neuralake.serve.query import query

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])


@pytest.fixture
def catalog(tmp_path: Path) -> nl.Catalog:
    """Ids 0 to 4 and 10 to 14 in partition a, 20 to 24 in b; 1 and 3 were deleted."""
    uri = str(tmp_path / "t")
    delta.create_table(uri, SCHEMA, partition_by=["p"])
    log = delta.TableLog.open(uri)
    for first, part in ((0, "a"), (10, "a"), (20, "b")):
        rows = {"id": list(range(first, first + 5)), "p": [part] * 5}
        log.append(pa.table(rows, schema=SCHEMA))
    delete_rows(uri, delta.snapshot(uri).files[0], inline_vector([1, 3]))
    table = nl.DeltaTable(name="t", uri=uri, schema=SCHEMA, partition_by=["p"])
    return nl.Catalog({"lab": [table]}, nl.Settings(folder=str(tmp_path)))


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT count(*), sum(id) FROM lab.t", [[13], [176]]),
        ("SELECT id FROM lab.t WHERE p = 'a' AND id < 10 ORDER BY id", [[0, 2, 4]]),
        ("SELECT count(*) FROM lab.t WHERE id NOT IN (SELECT id FROM lab.t WHERE p = 'b')", [[8]]),
        (
            "WITH RECURSIVE r AS (SELECT min(id) AS n FROM lab.t UNION ALL SELECT n + 1 FROM r "
            "WHERE n < 2) SELECT (SELECT count(*) FROM lab.t) FROM r",
            [[13, 13, 13]],
        ),
    ],
)
def test_deleted_rows_stay_deleted(catalog: nl.Catalog, sql: str, found: list[list[int]]) -> None:
    answer = query(catalog, sql)

    assert [column.to_pylist() for column in answer.columns] == found
