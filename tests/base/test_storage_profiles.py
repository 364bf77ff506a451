"""Claims about `[storage.NAME]`: what a profile takes, and that no message shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuralake.errors import SettingsError
from neuralake.settings import Settings, StorageProfile, load_settings

SECRET = "wJalrXUtnFEMI-not-a-real-key"  # noqa: S105 the tests look for it in messages


def load(folder: Path, text: str = "", **environment: str) -> Settings:
    file = folder / "neuralake.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environment=environment)


def test_a_lake_may_have_several_profiles(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[storage.lab]\nuri = "s3://lab-data/"\nendpoint = "http://127.0.0.1:9000"\n'
        '[storage.spark]\nuri = "s3://shared/lake"\ncoordination = "dynamodb"\n',
    )

    assert settings.storage == {
        "lab": StorageProfile(uri="s3://lab-data/", endpoint="http://127.0.0.1:9000"),
        "spark": StorageProfile(uri="s3://shared/lake", coordination="dynamodb"),
    }


def test_the_environment_wins_and_the_file_decides_whose_key_it_is(tmp_path: Path) -> None:
    text = (
        '[storage.my_lock]\nuri = "s3://aaa/"\nendpoint = "http://old"\n'
        '[storage.you]\nuri = "s3://bbb/"\n'
    )

    settings = load(
        tmp_path,
        text,
        NEURALAKE_STORAGE_MY_LOCK_ENDPOINT="http://new",
        NEURALAKE_STORAGE_YOU_LOCK_ENDPOINT="http://locks",
    )

    assert settings.storage["my_lock"].endpoint == "http://new"
    assert settings.storage["you"].lock_endpoint == "http://locks"


def test_a_credentials_file_is_seen_from_the_settings_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[storage.lab]\nuri = "s3://lab-data/"\ncredentials = "file:keys/lab.ini"\n'
        '[storage.far]\nuri = "s3://far-data/"\ncredentials = "file:/etc/far.ini"\n',
    )

    assert [profile.credentials for profile in settings.profiles] == [
        f"file:{tmp_path}/keys/lab.ini",
        "file:/etc/far.ini",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[storage]\nuri = "s3://lab-data/"', r"write \[storage.NAME\]"),
        ("[storage.lab]", r"\[storage.lab\] has no uri"),
        ('[storage.lab]\nuri = "s3://lab-data/"\nendpont = ""', "Did you mean 'endpoint'"),
        ('[storage.lab]\nuri = "gs://lab-data/"', "storage.lab.uri must be s3://bucket/"),
        ('[storage.lab]\nuri = "/data"', "storage.lab.uri must be s3://bucket/"),
        ('[storage.lab]\nuri = "s3://x"', "storage.lab.uri must be s3://bucket/"),
        ('[storage.lab]\nuri = "s3://lab-data/a?b"', r"no \?"),
        ("[storage.lab]\nuri = 3", "storage.lab.uri is 3; it must be a text"),
        (
            '[storage.lab]\nuri = "s3://lab-data/"\ncoordination = "zookeeper"',
            "storage.lab.coordination is 'zookeeper'; it must be conditional-put or dynamodb",
        ),
        ('[storage.lab]\nuri = "s3://lab-data/"\nendpoint = "host:9"', "lab.endpoint must be http"),
        (
            '[storage.lab]\nuri = "s3://lab-data/"\nlock_endpoint = "http://h:x"',
            "lock_endpoint must be http",
        ),
        (
            '[storage.lab]\nuri = "s3://lab-data/"\ncredentials = "profile:"',
            "credentials must be environment",
        ),
        (
            '[storage.lab]\nuri = "s3://aaa/"\ncoordination = "dynamodb"\nlock_table = ""',
            "lock_table is empty",
        ),
        (
            '[storage.a]\nuri = "s3://aaa/x"\n[storage.b]\nuri = "s3a://aaa/x/"',
            r"\[storage.a\] and \[storage.b\]",
        ),
        ('[storage."Lab 1"]\nuri = "s3://lab-data/"', "small letters"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text)


def test_a_variable_without_a_known_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NEURALAKE_STORAGE_LAB_SECRET") as caught:
        load(tmp_path, NEURALAKE_STORAGE_LAB_SECRET=SECRET)

    assert SECRET not in str(caught.value) + repr(caught.value.facts)


@pytest.mark.parametrize(
    "text",
    [
        f'uri = "s3://AKIA:{SECRET}@lab-data/"',
        f'uri = "s3://lab-data/"\nendpoint = "http://AKIA:{SECRET}@127.0.0.1:9000"',
        f'uri = "s3://lab-data/"\nlock_endpoint = "http://127.0.0.1:9000/?key={SECRET}"',
        f'uri = "s3://lab-data/"\ncredentials = "AKIA:{SECRET}"',
        f'uri = "s3://lab-data/"\nsecret_access_key = "{SECRET}"',
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_unshown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"[storage.lab]\n{text}\n")

    assert SECRET not in str(caught.value) + repr(caught.value.facts)
