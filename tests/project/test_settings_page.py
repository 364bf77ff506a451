"""docs/settings.md says what `neuralake.settings` does: the same keys, defaults and variables."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neuralake.settings import Settings, StorageProfile, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
SECTIONS = [name for name in Settings.__struct_fields__ if name not in ("folder", "storage")]
PROFILE = "storage.NAME"
HEADING = re.compile(r"^## \[([\w.]+)\]$", re.M)
ROW = re.compile(
    r"^\| `(?P<key>\w+)` \| (`(?P<default>.+?)` )?\| `(?P<variable>[\w<>]+)` \| (.+) \|$", re.M
)


def sections() -> dict[str, list[re.Match[str]]]:
    """The rows of each section's table."""
    _, *parts = HEADING.split(PAGE.read_text(encoding="utf-8"))
    return {
        name: list(ROW.finditer(text)) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def value_of(settings: Settings, section: str, key: str) -> Any:
    return getattr(getattr(settings, section), key)


def test_the_page_has_every_section_and_key_in_the_order_of_the_code() -> None:
    told = {name: [row["key"] for row in rows] for name, rows in sections().items()}

    assert list(told) == [*SECTIONS, PROFILE]
    assert told == {
        section: list(getattr(Settings(), section).__struct_fields__) for section in SECTIONS
    } | {PROFILE: list(StorageProfile.__struct_fields__)}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_defaults_are_those_of_the_code(section: str) -> None:
    defaults = msgspec.to_builtins(getattr(Settings(), section))

    told = {row["key"]: tomllib.loads(f"x = {row['default']}")["x"] for row in sections()[section]}

    assert told == defaults
    assert {key: type(value) for key, value in told.items()} == {
        key: type(value) for key, value in defaults.items()
    }


# One without the other is refused.
PAIRS = {"tls_cert": "NEURALAKE_SERVER_TLS_KEY", "tls_key": "NEURALAKE_SERVER_TLS_CERT"}
# Texts that are one of a few.
CHOICES = {
    "kafka.security_protocol": "sasl_ssl",
    "kafka.credentials": "file:secrets",
    "kafka.topic_identity": "name",
    "log.format": "json",
    "queue.kind": "sqlite",  # The other one needs a broker.
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_variables_set_their_keys(section: str, tmp_path: Path) -> None:
    """Each is changed alone, to what contradicts no other: twice the number, a text with a 1."""
    file = tmp_path / "neuralake.toml"
    file.touch()
    for row in sections()[section]:
        value = tomllib.loads(f"x = {row['default']}")["x"]
        if isinstance(value, bool):
            changed = str(not value)
        else:
            changed = f"{value}1" if isinstance(value, str) else str(value * 2 or 2)
        changed = CHOICES.get(f"{section}.{row['key']}", changed)
        partner = {PAIRS[row["key"]]: changed} if row["key"] in PAIRS else {}

        settings = load_settings(file, environment={row["variable"]: changed, **partner})

        assert str(value_of(settings, section, row["key"])) == changed


def test_the_defaults_of_a_storage_profile_are_those_of_the_code() -> None:
    defaults = msgspec.to_builtins(StorageProfile(uri="s3://bucket/"))

    told = {row["key"]: row["default"] for row in sections()[PROFILE]}

    assert told.pop("uri") is None, "a profile is of a place, so there is no default"
    assert {key: tomllib.loads(f"x = {value}")["x"] for key, value in told.items()} == {
        key: value for key, value in defaults.items() if key != "uri"
    }


PROFILE_VALUES = {
    "uri": "s3://bucket/prefix",
    "coordination": "dynamodb",
    "endpoint": "http://127.0.0.1:9000",
    "region": "eu-central-1",
    "credentials": "profile:lab",
    "lock_table": "commits",
    "lock_endpoint": "http://127.0.0.1:8000",
    "lock_region": "eu-west-1",
}


def test_the_variables_of_a_storage_profile_set_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "neuralake.toml"
    file.touch()
    environment = {
        row["variable"].replace("<NAME>", "MY_LAB"): PROFILE_VALUES[row["key"]]
        for row in sections()[PROFILE]
    }

    settings = load_settings(file, environment=environment)

    assert settings.storage == {"my_lab": StorageProfile(**PROFILE_VALUES)}
