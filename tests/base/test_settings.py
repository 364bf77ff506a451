"""Claims about settings: where they come from, and that a contradiction is told at load."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from neuralake.errors import SettingsError
from neuralake.settings import (
    CompactSettings,
    LakeSettings,
    QueueSettings,
    ServerSettings,
    Settings,
    VacuumSettings,
    WriterSettings,
    find_settings_file,
    load_settings,
)


def load(folder: Path, text: str = "", **environment: str) -> Settings:
    file = folder / "neuralake.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environment=environment)


# Where values come from


def test_an_empty_file_gives_the_defaults_and_its_folder(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings(folder=str(tmp_path))


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[server]\nport = 1\nhost = '::1'\n[sql]\ntimeout_s = 2",
        NEURALAKE_SERVER_PORT="9",
        NEURALAKE_COMPACT_INTERVAL_S="0.5",
        OTHER_SERVER_PORT="10",
    )

    assert (settings.server.port, settings.server.host) == (9, "::1")
    assert (settings.compact.interval_s, settings.sql.timeout_s) == (0.5, 2.0)


def test_the_nearest_file_above_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "neuralake.toml").write_text("[site]\ntitle = 'far'")
    assert find_settings_file(below) == tmp_path / "neuralake.toml"

    (tmp_path / "a" / "neuralake.toml").write_text("[site]\ntitle = 'near'")
    monkeypatch.chdir(below)

    settings = load_settings(environment={})
    assert (settings.site.title, settings.folder) == ("near", str(tmp_path / "a"))


def test_without_a_file_the_lake_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings(environment={})

    assert settings.root == str(tmp_path / "lake")
    assert settings.queue_path == tmp_path / "lake" / ".neuralake" / "queue.sqlite"


@pytest.mark.parametrize(
    ("root", "queue", "root_is", "queue_is"),
    [
        ("data", "", "/here/data", "/here/data/.neuralake/queue.sqlite"),
        ("/data", "q/queue", "/data", "/here/q/queue"),
        ("s3://bucket/lake", "", "s3://bucket/lake", "/here/.neuralake/queue.sqlite"),
        ("data", "/var/queue", "/here/data", "/var/queue"),
    ],
)
def test_relative_paths_are_seen_from_the_settings_file(
    root: str, queue: str, root_is: str, queue_is: str
) -> None:
    settings = Settings(
        folder="/here", lake=LakeSettings(root=root), queue=QueueSettings(path=queue)
    )

    assert (settings.root, str(settings.queue_path)) == (root_is, queue_is)


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serwer]\nport = 1", r"\[serwer\]. Did you mean 'server'"),
        ("[server]\nprot = 1", "'prot' in .server.. Did you mean 'port'"),
        ("folder = '/'", "unknown section"),
        ("server = 1", r"write \[server\]"),
        ("[server]\nport = 'many'", "server.port is 'many'; it must be a whole number"),
        ("[server", "not valid TOML"),
        ("[server]\nport = 70000", "ports are 0 to 65535"),
        ("[writer]\npoll_ms = 0", "greater than 0"),
        ("[vacuum]\ninterval_s = nan", "vacuum.interval_s is nan"),
        ("[compact]\ninterval_s = inf", "compact.interval_s is inf"),
        ("[ingest]\nwait_s_max = -1", "ingest.wait_s_max is -1"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text)


def test_a_mistake_in_the_environment_is_told_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NEURALAKE_SERVER_PORT is 'x'"):
        load(tmp_path, NEURALAKE_SERVER_PORT="x")
    with pytest.raises(SettingsError, match="Did you mean 'port'"):
        load(tmp_path, NEURALAKE_SERVER_PROT="1")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Cannot read"):
        load_settings(tmp_path / "missing.toml", environment={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings(tmp_path / "binary.toml", environment={})


@pytest.mark.parametrize(
    ("sections", "numbers"),
    [
        (
            {"queue": QueueSettings(grace_s=5), "writer": WriterSettings(flush_ms_max=600)},
            ("5", "600", "6.0"),
        ),
        (
            {
                "vacuum": VacuumSettings(retention_hours=0.01),
                "compact": CompactSettings(interval_s=60),
            },
            ("0.01", "60"),
        ),
        ({"queue": QueueSettings(bytes_max=1_000)}, ("67108864", "1000")),
        ({"compact": CompactSettings(files_min=1)}, ("1", "2")),
        (
            {
                "vacuum": VacuumSettings(orphan_age_hours=2),
                "writer": WriterSettings(write_s_max=7200),
            },
            ("2", "7200"),
        ),
    ],
)
def test_a_contradiction_names_both_values(
    sections: dict[str, Any], numbers: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**sections)

    assert all(number in caught.value.message for number in numbers)


def test_every_number_must_be_positive_and_finite() -> None:
    """Also of settings that are added later, unless the rule names them."""
    for section in Settings.__struct_fields__:
        default = getattr(Settings(), section)
        for key in getattr(default, "__struct_fields__", ()):
            if isinstance(getattr(default, key), str):
                continue
            for value in (-1, float("nan")):
                changed = msgspec.structs.replace(default, **{key: value})
                with pytest.raises(SettingsError, match=rf"{section}\.{key} is"):
                    Settings(**{section: changed})


def test_port_0_picks_a_free_one() -> None:
    assert Settings(server=ServerSettings(port=0)).server.port == 0


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings().folder = "/"  # type: ignore[misc]  # on purpose


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "lab.example.org", ""])  # noqa: S104 they are refused
def test_a_host_that_other_machines_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    file = tmp_path / "neuralake.toml"
    file.write_text(f'[server]\nhost = "{host}"\n')

    with pytest.raises(SettingsError, match="other machines can reach"):
        load_settings(file, environment={})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_host_is_taken(tmp_path: Path, host: str) -> None:
    assert load_settings(environment={"NEURALAKE_SERVER_HOST": host}).server.host == host
