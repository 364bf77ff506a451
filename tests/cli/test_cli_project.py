"""`init` writes a project that works as its README says, and never writes over anything."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab_project import eventually, run_cli, start_cli

from neuralake.settings import load_settings
from neuralake.supervise import read_state

Run = Callable[..., Any]


def test_it_says_what_it_wrote_and_what_comes_next(run: Run, tmp_path: Path) -> None:
    result = run("init", str(tmp_path / "mine"))

    assert result.exit_code == 0
    written = {path.name for path in (tmp_path / "mine").iterdir()}
    assert written == {"lake.py", "tables.py", "neuralake.toml", "README.md"}
    assert "neuralake up" in result.stderr


def test_it_writes_nothing_if_one_of_its_files_is_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lake.py").write_text("mine")
    result = run("init", str(tmp_path))

    assert result.exit_code == 2
    assert "lake.py" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lake.py"]
    assert (tmp_path / "lake.py").read_text() == "mine"


def test_other_files_are_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    assert run("init", str(tmp_path)).exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_project_works_as_its_readme_says(tmp_path: Path) -> None:
    """Up, send a row, query it, look at the tables, build the site, stop."""
    assert run_cli(tmp_path, "init").returncode == 0
    settings = load_settings(tmp_path / "neuralake.toml", environment={})
    row = {"device": "d-1", "time": "2026-01-01T00:00:00Z", "value": 21.5}
    (tmp_path / "rows.ndjson").write_text(json.dumps(row) + "\n")
    with start_cli(tmp_path, "up", "--port", "0") as up:
        assert eventually(lambda: read_state(settings.state_folder) is not None)

        sent = run_cli(tmp_path, "ingest", "lab.measurements", "rows.ndjson")
        assert sent.stdout == "rows.ndjson: 1 row is in lab.measurements\n"
        assert eventually(lambda: "21.5" in ask(tmp_path, "SELECT value FROM lab.measurements"))
        assert "d-1" in ask(tmp_path, "SELECT device FROM lab.latest")
        assert "lab.measurements" in run_cli(tmp_path, "tables").stdout
        assert run_cli(tmp_path, "site", "build").returncode == 0
        checked = run_cli(tmp_path, "check")
        assert checked.returncode == 0, checked.stdout
        stop(up)

    assert up.returncode == 0


def ask(folder: Path, sql: str) -> str:
    return run_cli(folder, "query", sql, "--format", "csv").stdout


def stop(up: subprocess.Popen[str]) -> None:
    up.terminate()
    printed, _ = up.communicate(timeout=60)
    assert "Stopped." in printed


def test_a_place_that_takes_no_project_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    for folder in (file, file / "below"):
        result = run("init", str(folder))
        assert result.exit_code == 2
        assert "Cannot make a project in" in result.stderr
    assert file.read_text() == "mine"
