"""Claims about settings: where they come from, and how a mistake in them is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neuralake.errors import SettingsError
from neuralake.settings import Settings, find_settings_file, load_settings


def settings_file(folder: Path, text: str) -> Path:
    file = folder / "neuralake.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = settings_file(tmp_path, "[server]\nport = 1\n[sql]\ntimeout_s = 5")

    settings = load_settings(file, environment={"NEURALAKE_SERVER_PORT": "2", "PATH": "/bin"})

    assert settings.server.port == 2
    assert settings.sql.timeout_s == 5.0
    assert settings.site == Settings().site


def test_relative_paths_are_seen_from_the_file(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path, '[lake]\nroot = "data"'), environment={})

    assert settings.root == f"{tmp_path}/data"
    assert settings.queue_path == tmp_path / "data" / ".neuralake" / "queue.sqlite"


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    file = settings_file(tmp_path, "")
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert find_settings_file(tmp_path / "a" / "b") == file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servr]\nport = 1", r"unknown section \[servr\]\. Did you mean 'server'\?"),
        ("[server]\nprt = 1", r"unknown key 'prt' in \[server\]\. Did you mean 'port'\?"),
        ("port = 1", r"unknown section \[port\]"),
        ("lake = 1", r"'lake' is a section: write \[lake\]"),
        ('[server]\nport = "x"', r"server\.port is 'x'; it must be a whole number"),
        ("[server]\nhost = 1", r"server\.host is 1; it must be a text"),
        ("[compact]\ninterval_s = []", r"compact\.interval_s is \[\]; it must be a number"),
        ("[server", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    file = settings_file(tmp_path, text)

    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(file, environment={})

    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NEURALAKE_SERVR_PORT", "1", r"unknown section \[servr\]\. Did you mean 'server'\?"),
        ("NEURALAKE_SERVER_PRT", "1", r"unknown key 'prt' in \[server\]\. Did you mean 'port'\?"),
        ("NEURALAKE_SERVER_PORT", "x", r"is 'x'; it must be a whole number"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_the_variable(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    """Not with the file: there is nothing to find in it."""
    file = settings_file(tmp_path, "")

    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(file, environment={variable: value})

    assert str(caught.value).startswith(f"The environment's {variable}")


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("[writer]\nflush_ms_max = 20000", ("queue.grace_s is 60.0 s", "20000 ms")),
        ("[vacuum]\nretention_hours = 0", ("retention_hours is 0.0", "60.0 s")),
        ("[queue]\nbytes_max = 1000", ("67108864", "1000")),
    ],
)
def test_values_that_contradict_each_other_are_both_named(
    tmp_path: Path, text: str, both: tuple[str, str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(settings_file(tmp_path, text), environment={})

    assert all(re.search(re.escape(part), str(caught.value)) for part in both)


@pytest.mark.parametrize("name", ["writer.poll_ms", "sql.memory_bytes_max", "ingest.wait_s_max"])
def test_what_must_be_positive_is_checked(tmp_path: Path, name: str) -> None:
    section, key = name.split(".")

    with pytest.raises(SettingsError, match=f"{name} is 0.*greater than 0") as caught:
        load_settings(settings_file(tmp_path, f"[{section}]\n{key} = 0"), environment={})

    assert caught.value.name == name


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Cannot read .*no\.toml: No such file"):
        load_settings(tmp_path / "no.toml", environment={})
