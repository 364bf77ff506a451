"""No answer of SQL tells where on this machine the files are."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from sql_lake import LIMITS, Lake, make_lake, serving

from neuralake.serve.gateway import Gateway


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM lab.every",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM lab.every WHERE id = 1",
        "EXPLAIN VERBOSE SELECT * FROM lab.numbers",
        "EXPLAIN SELECT * FROM lab.hive",
        "EXPLAIN FORMAT PGJSON SELECT * FROM lab.hive",
        "SHOW ALL",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM information_schema.tables",
        "SHOW CREATE TABLE lab.every",
    ],
)
def test_plans_and_settings_name_no_place(url: str, lake: Lake, sql: str) -> None:
    text = httpx.post(url, json={"sql": sql}, timeout=30).text

    assert '"rows"' in text
    assert str(lake.folder).strip("/") not in text


def test_errors_name_the_table_and_no_place(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    next(Path(lake.uri("every")).rglob("*.parquet")).write_bytes(b"not Parquet")
    Path(lake.uri("numbers"), "_delta_log", f"{0:020}.json").write_text("{")
    next(Path(lake.uri("hive")).rglob("*.parquet")).write_bytes(b"not Parquet")
    with Gateway(lake.catalog, processes=1, limits=LIMITS) as gateway, serving(gateway) as url:
        for name in ("every", "numbers", "hive"):
            sql = f"SELECT * FROM lab.{name}"  # noqa: S608 our own names
            answer = httpx.post(url, json={"sql": sql}, timeout=30)

            assert answer.status_code >= 400
            assert f"lab.{name}" in answer.text or name == "hive"
            assert str(tmp_path).strip("/") not in answer.text
