"""Each kind of table reads as in Python, and only the tables and files a query needs are opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from sql_lake import EVERY_TYPE, LIMITS, Lake, arrow, make_lake

from neuralake.errors import NeedsAttention, QueryError, TooLarge, UnknownName
from neuralake.serve.gateway import Gateway
from neuralake.serve.query import TRUNCATED, query


def test_hive_partitions_are_columns_with_their_types(gateway: Gateway) -> None:
    rows = arrow(gateway, "SELECT * FROM lab.hive ORDER BY n")

    assert rows.schema.types == [pa.int64(), pa.int32(), pa.string()]
    assert rows.to_pylist()[-1] == {"n": 21, "year": 2024, "kind": "b c"}
    only = arrow(gateway, "SELECT n FROM lab.hive WHERE year = 2023")
    assert only["n"].to_pylist() == [0, 1]


def test_folders_without_names_are_columns_too(gateway: Gateway) -> None:
    sql = "SELECT n, year, kind FROM lab.folders WHERE kind = 'b c' ORDER BY n"

    assert arrow(gateway, sql).to_pylist() == [
        {"n": 20, "year": 2024, "kind": "b c"},
        {"n": 21, "year": 2024, "kind": "b c"},
    ]


def test_a_glob_reads_the_files_it_matches(gateway: Gateway) -> None:
    found = arrow(gateway, "SELECT n FROM lab.globbed ORDER BY n")["n"].to_pylist()

    assert found == [10, 11, 20, 21]


def test_a_function_table_is_called_when_it_is_named(gateway: Gateway) -> None:
    rows = arrow(gateway, "SELECT * FROM lab.made WHERE a = 2")

    assert rows.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert rows.to_pylist() == [{"a": 2, "b": None}]


def test_a_function_that_needs_arguments_says_so(gateway: Gateway) -> None:
    with pytest.raises(QueryError, match=r"needs session.*SQL passes no") as caught:
        arrow(gateway, "SELECT * FROM lab.needy")

    assert caught.value.required == ["session"]


def test_a_function_that_fails_does_not_tell_its_secrets(gateway: Gateway) -> None:
    with pytest.raises(NeedsAttention, match="failed with OSError") as caught:
        arrow(gateway, "SELECT * FROM lab.broken")

    assert "1234" not in caught.value.message


def test_a_function_of_too_many_rows_is_refused(gateway: Gateway) -> None:
    with pytest.raises(TooLarge):
        arrow(gateway, "SELECT count(*) FROM lab.endless")


def test_tables_of_all_kinds_join(gateway: Gateway) -> None:
    sql = """
        SELECT e.id, m.b, h.kind FROM lab.every e
        JOIN lab.made m ON m.a = e.id JOIN lab.hive h ON h.n = e.id
    """

    assert arrow(gateway, sql).to_pylist() == [{"id": 1, "b": "x", "kind": "a"}]


def test_the_only_database_needs_no_name(gateway: Gateway) -> None:
    assert arrow(gateway, "SELECT id FROM every").num_rows == 3


@pytest.mark.parametrize("sql", ["SELECT * FROM lib.every", "SELECT * FROM lab.evry"])
def test_an_unknown_name_is_told_with_the_nearest_one(gateway: Gateway, sql: str) -> None:
    with pytest.raises(UnknownName, match="Did you mean"):
        arrow(gateway, sql)


def test_listing_opens_no_table(lake: Lake, gateway: Gateway) -> None:
    """Names and declared columns of all tables, with not one version looked up."""
    with gateway.query("SHOW TABLES", "arrow") as running:
        assert running.open().versions == {}
        shown = pa.ipc.open_stream(b"".join(running.parts())).read_all().to_pylist()
    names = {row["table_name"] for row in shown if row["table_schema"] == "lab"}
    assert names == set(lake.catalog.db("lab").tables())

    sql = (
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'lab' AND table_name = 'every' ORDER BY ordinal_position"
    )
    with gateway.query(sql, "arrow") as running:
        assert running.open().versions == {}
        columns = pa.ipc.open_stream(b"".join(running.parts())).read_all()
    assert columns["column_name"].to_pylist() == EVERY_TYPE.names


@pytest.fixture
def damaged(tmp_path: Path) -> Lake:
    """A lake of which one table cannot be opened, and one lacks the files of a partition."""
    lake = make_lake(tmp_path)
    for part in ["here", "gone", "gone", "gone"]:
        lake.append("numbers", pa.table({"n": [1], "part": [part]}))
    for folder in Path(lake.uri("numbers")).glob("part=gone"):
        shutil.rmtree(folder)
    for entry in Path(lake.uri("every"), "_delta_log").iterdir():
        entry.write_bytes(b"{ damaged")
    return lake


def test_a_damaged_table_harms_only_queries_that_name_it(damaged: Lake) -> None:
    with Gateway(damaged.catalog, processes=1, limits=LIMITS) as gateway:
        assert arrow(gateway, "SELECT * FROM lab.made").num_rows == 2
        assert arrow(gateway, "SHOW TABLES").num_rows > 8
        with pytest.raises(NeedsAttention):
            arrow(gateway, "SELECT * FROM lab.every")


def test_files_of_other_partitions_are_not_read(damaged: Lake) -> None:
    """They are not even there."""
    with Gateway(damaged.catalog, processes=1, limits=LIMITS) as gateway:
        found = arrow(gateway, "SELECT n FROM lab.numbers WHERE part = 'here'")
        assert found["n"].to_pylist() == [1]


def test_files_whose_statistics_exclude_the_filter_are_not_read(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    for value in (1, 2, 3):
        lake.append("numbers", pa.table({"n": [value], "part": ["p"]}))
    for file in Path(lake.uri("numbers")).rglob("*.parquet"):
        file.unlink()
    lake.append("numbers", pa.table({"n": [1000], "part": ["p"]}))

    with Gateway(lake.catalog, processes=1, limits=LIMITS) as gateway:
        found = arrow(gateway, "SELECT n FROM lab.numbers WHERE n > 500")
        assert found["n"].to_pylist() == [1000]


@pytest.mark.parametrize("name", ["empty", "unwritten"])
def test_a_table_without_rows_can_be_sorted_grouped_and_joined(gateway: Gateway, name: str) -> None:
    sql = "SELECT place, count(*) FROM lab.{0} WHERE id > 1 GROUP BY place ORDER BY place"
    assert arrow(gateway, sql.format(name)).num_rows == 0
    joined = "SELECT e.id FROM lab.every e LEFT JOIN lab.{0} u ON u.id = e.id ORDER BY e.id"
    assert arrow(gateway, joined.format(name))["id"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["hive", "folders"])
def test_a_filter_that_leaves_no_file_finds_no_row(gateway: Gateway, name: str) -> None:
    sql = "SELECT n FROM lab.{0} WHERE year = 1999 ORDER BY n"
    assert arrow(gateway, sql.format(name)).num_rows == 0


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "SELECT id FROM lab.every WHERE instant > 'x'",
            "Arrow error: Parser error: ",
        ),
        ("SELECT CAST('a' AS INT)", "Arrow error: Cast error: Cannot cast"),
        # A query cannot pass its own words off as the engine's.
        (
            "SELECT CAST('x failed\ncaused by\nSQL error: ParserError(\"a\nb\")' AS INT)",
            "Arrow error: Cast error: Cannot cast",
        ),
        (
            'SELECT "x failed\ncaused by\nSQL error: ParserError(""a\nb"")"',
            "Schema error: No field named",
        ),
        ("SELEC 'a", "The SQL cannot be read: Unterminated string literal at"),
        ("SELECT 1 +", "The SQL cannot be read: Expected: "),
    ],
)
def test_what_the_engine_says_is_told_without_its_own_words(
    gateway: Gateway, sql: str, said: str
) -> None:
    with pytest.raises(QueryError) as caught:
        arrow(gateway, sql)
    assert str(caught.value).startswith(said)


def test_a_plain_call_answers_without_a_server(lake: Lake) -> None:
    rows = query(lake.catalog, "SELECT id FROM lab.every ORDER BY id", rows_max=2)

    assert rows["id"].to_pylist() == [0, 1]
    assert rows.schema.metadata[TRUNCATED] == b"true"
    assert query(lake.catalog, "SELECT 1").schema.metadata[TRUNCATED] == b"false"
