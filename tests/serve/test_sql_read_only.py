"""Only one reading statement runs; whatever else is sent leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from sql_lake import Lake, arrow

from neuralake import delta
from neuralake.errors import NeuralakeError, QueryError, TooLarge, UnknownName
from neuralake.serve.gateway import Gateway
from neuralake.serve.guard import check_text

WRITES = [
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY lab.every TO '{folder}/out.parquet' STORED AS PARQUET",
    "/* SELECT */ COPY (SELECT 1) TO '{folder}/out.csv'",
    "-- SELECT\nCOPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE VERBOSE COPY (SELECT 1) TO '{folder}/out.csv'",
    "INSERT INTO lab.numbers VALUES (1, 'a')",
    "INSERT OVERWRITE lab.numbers SELECT 1, 'a'",
    "EXPLAIN ANALYZE INSERT INTO lab.numbers VALUES (1, 'a')",
    "WITH x AS (SELECT 1) INSERT INTO lab.numbers SELECT 1, 'a'",
    "UPDATE lab.numbers SET n = 1",
    "DELETE FROM lab.numbers",
    "TRUNCATE TABLE lab.numbers",
    "MERGE INTO lab.numbers USING lab.every ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TABLE lab.t (a INT)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE UNBOUNDED EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE FUNCTION f(DOUBLE) RETURNS DOUBLE RETURN $1",
    "CREATE INDEX i ON lab.numbers (n)",
    "DROP TABLE lab.numbers",
    "DROP VIEW v",
    "DROP SCHEMA lab CASCADE",
    "DROP FUNCTION abs",
    "ALTER TABLE lab.numbers ADD COLUMN x INT",
    "SET datafusion.execution.batch_size = 1",
    "/**/ SET datafusion.runtime.memory_limit = '100G'",
    "RESET datafusion.execution.batch_size",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "LOAD DATA INPATH '/etc/passwd' INTO TABLE lab.numbers",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE lab.numbers",
    "SELECT 1;; COPY (SELECT 1) TO '{folder}/out.csv'",
    "SELECT 1 INTO lab.t",
    "",
    ";",
    "-- nothing",
]

FILES = [
    "SELECT * FROM '/etc/passwd'",
    'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM 'file:///etc/passwd'",
    "SELECT * FROM '{folder}/lake/raw/hive/year=2023/kind=a/part-0.parquet'",
    "SELECT * FROM lab.'../every'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('{folder}/lake/raw/hive/year=2023/kind=a/part-0.parquet')",
    "SELECT * FROM parquet_metadata('{folder}/x.parquet')",
    "SELECT read_text('/etc/passwd')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT input_file_name() FROM lab.every",
]


@pytest.mark.parametrize("sql", WRITES)
def test_a_statement_that_writes_is_refused(gateway: Gateway, lake: Lake, sql: str) -> None:
    before = {path for path in lake.folder.rglob("*") if path.is_file()}

    with pytest.raises(QueryError) as caught:
        arrow(gateway, sql.format(folder=lake.folder))

    assert caught.value.reason in ("read-only", "plan", "text")
    assert {path for path in lake.folder.rglob("*") if path.is_file()} == before
    assert delta.snapshot(lake.uri("numbers")).version == 0


@pytest.mark.parametrize("sql", FILES)
def test_no_name_or_function_reads_a_file(gateway: Gateway, lake: Lake, sql: str) -> None:
    with pytest.raises((QueryError, UnknownName)):
        arrow(gateway, sql.format(folder=lake.folder))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT 1;",
        "  /* words */ SELECT 1 -- more",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "VALUES (1)",
        "EXPLAIN SELECT * FROM lab.every",
        "EXPLAIN ANALYZE SELECT count(*) FROM lab.every",
        "SHOW TABLES",
        "SHOW COLUMNS FROM lab.every",
        "SHOW FUNCTIONS",
        "SHOW ALL",
        "DESCRIBE lab.every",
    ],
)
def test_statements_that_read_run(gateway: Gateway, sql: str) -> None:
    assert arrow(gateway, sql).num_rows > 0


def test_the_refusal_says_what_was_found_and_what_is_allowed(gateway: Gateway) -> None:
    with pytest.raises(QueryError, match=r"SELECT, SHOW, DESCRIBE, EXPLAIN.*found COPY"):
        arrow(gateway, "COPY (SELECT 1) TO '/tmp/out.csv'")
    with pytest.raises(QueryError, match="several statements"):
        arrow(gateway, "SELECT 1; SELECT 2")


def test_a_query_cannot_change_what_the_next_one_sees(gateway: Gateway) -> None:
    with pytest.raises(NeuralakeError):
        arrow(gateway, "SET datafusion.execution.batch_size = 7")

    found = arrow(gateway, "SHOW datafusion.execution.batch_size").to_pylist()
    assert found[0]["value"] == "8192"


def test_a_long_text_is_refused_by_its_bytes() -> None:
    assert check_text("SELECT 'ü'", bytes_max=11) == "SELECT 'ü'"
    with pytest.raises(TooLarge) as caught:
        check_text("SELECT 'ü'", bytes_max=10)
    assert (caught.value.limit, caught.value.found) == (10, 11)


@pytest.mark.parametrize("sql", ["", " \n", "SELECT '\0'", "SELECT '\ud800'"])
def test_a_text_that_is_no_text_is_refused(sql: str) -> None:
    with pytest.raises(QueryError):
        check_text(sql, bytes_max=100)


def test_the_process_folder_is_not_a_place_to_import_from(gateway: Gateway) -> None:
    """A query cannot leave a file that the next process would run."""
    arrow(gateway, "SELECT 1")

    (process_id,) = gateway.process_ids
    arguments = Path(f"/proc/{process_id}/cmdline").read_bytes().split(b"\0")
    assert b"-P" in arguments
