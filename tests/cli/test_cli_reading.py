"""`tables`, `show`, `query`, `check` and `site`: what there is, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kept_port import kept_port
from lab_project import post

from neuralake.catalog import load_catalog
from neuralake.settings import Settings
from neuralake.supervise import Platform, read_state
from neuralake.supervise.state import write_state

Run = Callable[..., Any]


@pytest.fixture
def filled(project: Settings) -> Settings:
    """Ten events, committed."""
    with Platform(load_catalog(project)) as platform:
        post(platform.url, range(10))
    return project


def test_tables_lists_every_table_with_what_its_log_says(run: Run, filled: Settings) -> None:
    del filled
    result = run("tables", "--format", "json")

    rows = {row["table"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert list(rows) == ["lab.events", "lab.latest", "lab.silent"]
    assert (rows["lab.events"]["rows"], rows["lab.events"]["kind"]) == (10, "delta")
    assert rows["lab.silent"]["rows"] is None


def test_tables_are_a_table_for_people(run: Run, project: Settings) -> None:
    del project
    lines = run("tables").stdout.splitlines()

    assert lines[0].startswith("table")
    assert "One row per event." in lines[1]


def test_show_has_columns_log_and_how_to_read_it(run: Run, filled: Settings) -> None:
    del filled
    text = run("show", "lab.events").stdout

    for part in (
        *("lab.events (delta)", "One row per event.", "rows 10", "POST /v1/lab/events"),
        *('catalog.db("lab").table("events")', "Its number.", "int64"),
    ):
        assert part in text


def test_show_of_a_table_without_rows_says_so(run: Run, project: Settings) -> None:
    del project
    assert "nothing is written yet" in run("show", "lab.silent").stdout


def test_show_writes_the_columns_for_programs(run: Run, project: Settings) -> None:
    del project
    rows = list(csv.DictReader(io.StringIO(run("show", "lab.events", "-f", "csv").stdout)))

    assert [row["column"] for row in rows] == ["id", "text"]
    assert rows[0]["type"] == "int64"


def test_query_writes_a_table_json_or_csv(run: Run, filled: Settings) -> None:
    del filled
    sql = "SELECT id, text FROM lab.events WHERE id < 2 ORDER BY id"

    assert run("query", sql).stdout.split() == ["id", "text", "0", "event", "0", "1", "event", "1"]
    assert run("query", sql, "-f", "csv").stdout == "id,text\n0,event 0\n1,event 1\n"
    assert [json.loads(line) for line in run("query", sql, "-f", "json").stdout.splitlines()] == [
        {"id": 0, "text": "event 0"},
        {"id": 1, "text": "event 1"},
    ]


def test_query_reads_the_sql_from_standard_input(run: Run, filled: Settings) -> None:
    del filled
    result = run("query", "-", "-f", "csv", input="SELECT count(*) AS n FROM lab.events")

    assert result.stdout == "n\n10\n"


def test_values_of_every_kind_have_a_json_and_a_csv_form(run: Run, project: Settings) -> None:
    del project
    sql = (
        "SELECT TIMESTAMP '2026-01-01T00:00:00' AS t, X'00ff' AS b, [1, 2] AS l, NULL AS n, "
        "CAST(1.50 AS DECIMAL(9, 2)) AS d, true AS y"
    )

    row = json.loads(run("query", sql, "-f", "json").stdout)
    assert row["t"].startswith("2026-01-01T00:00:00")
    assert (row["b"], row["d"], row["l"], row["n"], row["y"]) == (
        "AP8=",
        "1.50",
        [1, 2],
        None,
        True,
    )
    written = run("query", sql, "-f", "csv").stdout.splitlines()[1]
    assert written.endswith(',AP8=,"[1,2]",,1.50,true')
    assert written.startswith("2026-01-01T00:00:00.000000")


def test_an_interval_and_a_nan_are_written(run: Run, project: Settings) -> None:
    del project
    sql = "SELECT interval '1 hour' AS i, CAST('NaN' AS DOUBLE) AS x"

    for form in ("table", "csv", "json"):
        assert "NaN" in run("query", sql, "-f", form).stdout
    assert json.loads(run("query", sql, "-f", "json").stdout)["x"] == "NaN"


def test_two_columns_of_one_name_are_both_written(run: Run, filled: Settings) -> None:
    del filled
    sql = "SELECT a.id, b.id FROM lab.events a JOIN lab.events b ON a.id = b.id WHERE a.id = 1"

    assert run("query", sql, "-f", "csv").stdout == "id,id\n1,1\n"
    refused = run("query", sql, "-f", "json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Name them apart with AS" in refused.stderr


def test_help_is_wrapped_by_the_terminal_and_not_by_the_code(run: Run) -> None:
    """In the docstring a line ends after "which"."""
    assert "sql.rows_max, which is said on standard error." in run("query", "--help").stdout


def test_help_names_the_settings_of_sql(run: Run) -> None:
    assert "sql" in run("query", "--help").stdout.split("limits of the", 1)[1].split("settings")[0]


def test_a_cut_answer_is_said_on_standard_error(
    run: Run, project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    del project
    monkeypatch.setenv("NEURALAKE_SQL_ROWS_MAX", "5")
    result = run("query", "SELECT * FROM generate_series(1, 100)", "-f", "csv")

    assert len(result.stdout.splitlines()) == 6
    assert "cut at 5 rows" in result.stderr


def test_check_finds_nothing_wrong_with_a_healthy_lake(run: Run, filled: Settings) -> None:
    del filled
    result = run("check")

    assert result.exit_code == 0, result.stdout
    assert not [line for line in result.stdout.splitlines() if line.startswith("wrong")]
    assert "lab.events: version" in result.stdout
    assert "everything is committed" in result.stdout
    assert "neuralake up" in result.stdout  # It does not run.


def test_check_sees_a_running_platform(run: Run, project: Settings) -> None:
    with Platform(load_catalog(project)) as platform:
        result = run("check")

    assert result.exit_code == 0, result.stdout
    assert f"platform: {platform.url}" in result.stdout


def test_check_says_why_a_running_platform_takes_no_rows(run: Run, project: Settings) -> None:
    with Platform(load_catalog(project)) as platform:
        aside = project.queue_path.with_name("aside")
        project.queue_path.rename(aside)
        result = run("check")
        aside.rename(project.queue_path)

    assert result.exit_code == 70, result.stdout
    said = next(line for line in result.stdout.splitlines() if platform.url in line)
    assert said.startswith("wrong")
    assert "takes no rows now: queue" in said


def test_check_says_that_a_platform_does_not_answer(run: Run, project: Settings) -> None:
    with Platform(load_catalog(project)) as platform:
        found = read_state(project.state_folder)
        assert found is not None
        nobody = f"http://127.0.0.1:{kept_port()}"
        write_state(project.state_folder, msgspec.structs.replace(found, url=nobody))
        result = run("check")
        write_state(project.state_folder, found)

    assert result.exit_code == 70, result.stdout
    assert platform.url not in result.stdout
    assert "the server does not answer" in result.stdout


def test_check_finds_a_definition_that_differs_from_its_table(run: Run, filled: Settings) -> None:
    tables = Path(filled.folder, "tables.py")
    tables.write_text(tables.read_text().replace('("text", pa.string())', '("text", pa.int32())'))
    for name in ("lake", "tables"):
        sys.modules.pop(name, None)
    result = run("check")

    assert result.exit_code == 70
    assert "'text' is defined as int32, but the table has string" in result.stdout
    assert "Error: 1 of the checks failed" in result.stderr


def test_check_finds_a_queue_that_is_an_older_copy(
    run: Run, filled: Settings, tmp_path: Path
) -> None:
    """The table has positions that the queue does not: new rows would be taken for old ones."""
    folder, backup = filled.queue_path.parent, tmp_path / "backup"
    shutil.copytree(folder, backup)
    with Platform(load_catalog(filled)) as platform:
        post(platform.url, [10])
    load_catalog(filled).queue().close()
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    for name in ("lake", "tables"):
        sys.modules.pop(name, None)
    result = run("check")

    assert result.exit_code == 70
    assert "restored from an older copy" in result.stdout


def test_check_goes_on_over_a_broken_table(run: Run, filled: Settings) -> None:
    (Path(filled.root) / "lab" / "events" / "_delta_log" / f"{0:020}.json").write_text("{")
    result = run("check")

    assert result.exit_code == 70
    assert "wrong lab.events" in result.stdout
    assert "lab.silent" in result.stdout


def test_check_reports_a_catalog_that_does_not_load(run: Run, project: Settings) -> None:
    Path(project.folder, "lake.py").write_text("import absent_module\n")
    result = run("check")

    assert result.exit_code == 70
    assert "absent_module" in result.stdout


def test_site_build_prints_where_the_index_is(run: Run, filled: Settings) -> None:
    result = run("site", "build")

    assert result.exit_code == 0, result.stderr
    index = Path(result.stdout.strip())
    assert index == Path(filled.folder, "site", "index.html")
    assert "events" in index.read_text(encoding="utf-8")
