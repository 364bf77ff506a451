"""Every command ends as scripts expect: answers on one stream, errors on the other, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_project import run_cli

from neuralake import __version__
from neuralake.settings import Settings

Run = Callable[..., Any]


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").stdout == f"neuralake {__version__}\n"


def test_without_settings_it_is_said_how_to_make_a_project(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("tables")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "neuralake init" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["show", "lab.event"], 2, "It has: events, latest, silent."),
        (["show", "events"], 2, "write database.table: lab.events"),
        (["show", "lap.events"], 2, "Did you mean 'lab'?"),
        (["query", "SELECT * FROM lab.event"], 2, "events"),
        (["query", "DROP TABLE lab.events"], 2, ""),
        (["ingest", "lab.silent", "x.csv"], 2, "Add stream=nl.Stream()"),
        (["ingest", "lab.events", "absent.csv"], 2, "Cannot read absent.csv: No such file"),
        (["ingest", "lab.events", "there.csv", "notes.txt"], 2, "Known endings: .csv"),
        (["ingest", "lab.events", "there.csv"], 75, "Start it with `neuralake up`"),
        (["write", "lab.nothing"], 2, "No stream table"),
        (["--settings", "absent.toml", "tables"], 78, "absent.toml"),
    ],
)
def test_an_error_says_what_helps(
    run: Run, project: Settings, arguments: list[str], exit_code: int, said: str
) -> None:
    Path(project.folder, "there.csv").touch()
    result = run(*arguments)

    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_setting_names_the_nearest(run: Run, project: Settings) -> None:
    Path(project.folder, "neuralake.toml").write_text("[lake]\nrot = 'x'\n")
    result = run("tables")

    assert result.exit_code == 78
    assert "Did you mean 'root'?" in result.stderr


def test_an_unexpected_error_is_one_line_and_debug_shows_the_trace(
    run: Run, project: Settings
) -> None:
    Path(project.folder, "lake.py").write_text("1 / 0\n")

    short, long = run("tables"), run("--debug", "tables")

    assert (short.exit_code, long.exit_code) == (70, 70) or short.exit_code == long.exit_code
    assert "Traceback" not in short.stderr
    assert "ZeroDivisionError" in long.stderr
    assert "Traceback" in long.stderr


def test_an_unknown_option_is_the_parsers_to_tell(run: Run) -> None:
    result = run("up", "--prot", "1")

    assert result.exit_code == 2
    assert "--prot" in result.stderr


def test_who_stops_reading_early_gets_no_error(tmp_path: Path) -> None:
    """`neuralake query … | head -1`."""
    from lab_project import make_project

    make_project(tmp_path)
    many = "SELECT * FROM generate_series(1, 90000)"
    command = f'"{sys.executable}" -m neuralake query "{many}" --format csv | head -1'
    answer = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert answer.stdout == "value\n"
    assert answer.stderr == ""


def test_help_loads_no_engine(tmp_path: Path) -> None:
    """That keeps it quick: the engines take longer to load than the rest to run."""
    script = (
        "import sys; sys.argv = ['neuralake', '--help']\n"
        "from neuralake.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )

    for engine in ("polars", "pyarrow", "deltalake", "datafusion", "starlette", "uvicorn"):
        assert f"'{engine}'" not in answer.stderr
    assert "demo" in answer.stdout


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    assert run_cli(tmp_path, "--version").stdout == f"neuralake {__version__}\n"
