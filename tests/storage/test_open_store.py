"""Which store an address has, with whose credentials, and what is refused before any request."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest
from aws_account import AwsAccount

from neuralake.clock import ManualClock
from neuralake.errors import NeuralakeError, SettingsError, UsageError
from neuralake.settings import StorageProfile
from neuralake.storage import CoordinatedStore, LocalStore, LogStore, S3Store, open_store
from neuralake.storage.access import Credentials, credentials_of

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}


def nowhere(tmp_path: Path, **more: str) -> dict[str, str]:
    """An environment without AWS' own files."""
    return {"HOME": str(tmp_path), **more}


def write_keys(path: Path, **sections: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parser = configparser.ConfigParser(interpolation=None)
    for section, name in sections.items():
        parser[section] = {
            "aws_access_key_id": f"AKID{name}",
            "aws_secret_access_key": f"{name}-secret%20",
        }
    with path.open("w") as file:
        parser.write(file)
    return path


def test_the_longest_prefix_of_whole_folders_wins() -> None:
    lake = StorageProfile(uri="s3://lake/", region="eu-north-1")
    raw = StorageProfile(uri="s3a://lake/raw", region="eu-west-1")
    profiles = [lake, raw, StorageProfile(uri="s3://lake-2/", region="us-west-2")]

    def region(uri: str) -> str:
        return open_store(uri, profiles, KEYS).storage_options["AWS_REGION"]

    assert region("s3://lake/raw/t") == region("s3a://lake/raw/t/") == "eu-west-1"
    assert region("s3://lake/raw") == "eu-west-1"
    assert region("s3://lake/rawer/t") == region("s3://lake/t") == "eu-north-1"
    assert region("s3://lake-2/t") == "us-west-2"
    assert region("s3://other/t") == "us-east-1"


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_hadoops_spellings_are_one_place_and_several_keys(scheme: str) -> None:
    """As Spark and deltalake do: each looks in the lock table for the address that it was given."""
    profile = StorageProfile(uri="s3://lake/", coordination="dynamodb", lock_table="locks")
    store = open_store(f"{scheme}://lake/a/t/", [profile], KEYS)

    assert isinstance(store, CoordinatedStore)
    assert store.uri == "s3://lake/a/t"
    assert store.table_path == f"{scheme}://lake/a/t"
    assert store.lock_table == "locks"
    assert store.coordination == "dynamodb"


def test_without_a_profile_the_environment_says_how(tmp_path: Path) -> None:
    environment = nowhere(
        tmp_path,
        **KEYS,
        AWS_SESSION_TOKEN="tok",  # noqa: S106 a made-up token
        AWS_DEFAULT_REGION="eu-west-3",
        AWS_ENDPOINT_URL="http://127.0.0.1:9000",
    )
    store = open_store("s3://lake/t", environment=environment)

    assert isinstance(store, S3Store)
    assert store.storage_options == {
        "AWS_REGION": "eu-west-3",
        "AWS_CONDITIONAL_PUT": "etag",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "AKIDENV",
        "AWS_SECRET_ACCESS_KEY": "env-secret",
        "AWS_SESSION_TOKEN": "tok",
    }


def test_credentials_come_from_where_the_profile_says(tmp_path: Path) -> None:
    ours = write_keys(tmp_path / "ours", robot="FIRST", default="DEFAULT")
    only = write_keys(tmp_path / "only", robot="FIRST")
    write_keys(tmp_path / ".aws" / "credentials", default="HOME", lab="LAB")
    environment = nowhere(tmp_path, **KEYS)

    def key(spec: str, environment: dict[str, str] = environment) -> str:
        found = credentials_of(spec, environment)[0]()
        assert found is not None
        assert found.secret_key.removesuffix("%20").endswith("-secret")
        return found.access_key

    assert key("environment") == "AKIDENV"
    assert key("environment", nowhere(tmp_path)) == "AKIDHOME"
    assert key("environment", nowhere(tmp_path, AWS_PROFILE="lab")) == "AKIDLAB"
    assert key("profile:lab") == "AKIDLAB"
    assert key(f"file:{ours}") == "AKIDDEFAULT"
    assert key(f"file:{only}") == "AKIDFIRST"
    elsewhere = nowhere(tmp_path / "x", AWS_SHARED_CREDENTIALS_FILE=str(only))
    assert key("profile:robot", elsewhere) == "AKIDFIRST"
    assert credentials_of("environment", nowhere(tmp_path / "x"))[0]() is None


def test_a_file_of_credentials_is_read_again_when_they_may_have_changed(tmp_path: Path) -> None:
    clock = ManualClock()
    path = write_keys(tmp_path / "keys", default="OLD")
    credentials, source = credentials_of(f"file:{path}", {}, clock=clock)
    assert source == f"the file {path}"
    write_keys(path, default="NEW")

    assert credentials() == Credentials("AKIDOLD", "OLD-secret%20")
    clock.advance(61)
    assert credentials() == Credentials("AKIDNEW", "NEW-secret%20")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No aws_access_key_id"),
        ("[default]\naws_access_key_id = AKIDX\n", "No aws_access_key_id"),
        ("[default]\nrole_arn = arn\n", "export-credentials"),
        ("AKIDX top-secret\n", "no file of AWS credentials"),
        ("[default]\naws_secret_access_key top-secret\n", "no file of AWS credentials"),
    ],
)
def test_credentials_that_are_not_there_are_told_at_once_without_a_secret(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    profile = StorageProfile(uri="s3://lake/", credentials=f"file:{path}")

    with pytest.raises(SettingsError, match=words) as caught:
        open_store("s3://lake/t", [profile], {})
    assert str(path) in str(caught.value)
    assert "top-secret" not in f"{caught.value!r} {caught.value.facts}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("coordination", "variables"),
    [
        ("conditional-put", {"AWS_S3_LOCKING_PROVIDER": "dynamodb"}),
        (None, {"AWS_S3_LOCKING_PROVIDER": "dynamodb"}),
        ("dynamodb", {"AWS_S3_LOCKING_PROVIDER": "none"}),
        ("dynamodb", {"DELTA_DYNAMO_TABLE_NAME": "other"}),
    ],
)
def test_an_environment_that_coordinates_otherwise_is_refused(
    coordination: str | None, variables: dict[str, str]
) -> None:
    profiles = []
    if coordination:
        profiles.append(StorageProfile(uri="s3://lake/", coordination=coordination))
    with pytest.raises(SettingsError, match=next(iter(variables))) as caught:
        open_store("s3://lake/t", profiles, {**KEYS, **variables})

    assert caught.value.environment == next(iter(variables.values()))
    assert caught.value.uri == "s3://lake/t"


def test_an_environment_that_agrees_is_welcome() -> None:
    profile = StorageProfile(uri="s3://lake/", coordination="dynamodb", lock_table="locks")
    agreeing = {
        **KEYS,
        "AWS_S3_LOCKING_PROVIDER": "dynamodb",
        "DELTA_DYNAMO_TABLE_NAME": "locks",
    }

    assert open_store("s3://lake/t", [profile], agreeing).coordination == "dynamodb"
    assert isinstance(open_store("/lake/t", [profile], agreeing), LocalStore)


@pytest.mark.parametrize(
    "uri", ["s3://lake", "s3://lake/", "s3:///t", "gs://lake/t", "ftp://lake/t"]
)
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=r"this version commits to") as caught:
        open_store(uri, (), KEYS)
    assert caught.value.uri == uri


def test_nothing_that_is_shown_of_a_store_has_a_secret(account: AwsAccount) -> None:
    profile = StorageProfile(
        uri="s3://lake/", coordination="dynamodb", endpoint=account.s3_endpoint
    )
    store = open_store("s3://lake/t", [profile], account.environment())
    assert isinstance(store, CoordinatedStore)
    access = store._files._access  # type: ignore[attr-defined] # what a debugger would show

    shown = f"{store!r} {store} {store.locks!r} {access!r} {access.credentials()!r}"
    assert account.secret_key not in shown
    assert account.access_key not in shown


def failure(store: LogStore) -> NeuralakeError:
    with pytest.raises(NeuralakeError) as caught:
        store.put_if_absent("_delta_log/00000000000000000000.json", b"{}")
    return caught.value


def test_what_is_missing_on_the_servers_is_named_with_what_helps(account: AwsAccount) -> None:
    environment = account.environment()
    no_bucket = failure(open_store("s3://no-such-bucket/t", environment=environment))
    assert "no bucket 'no-such-bucket'" in str(no_bucket)

    bucket = account.make_bucket()
    profile = StorageProfile(
        uri=f"s3://{bucket}/", coordination="dynamodb", lock_table="no-such-table"
    )
    store = open_store(f"s3://{bucket}/t", [profile], environment)
    no_table = failure(store)
    assert "no DynamoDB table 'no-such-table'" in str(no_table)
    assert "storage init" in str(no_table)
    assert isinstance(no_bucket, SettingsError)
    assert isinstance(no_table, SettingsError)
    assert [*store.files()] == []


def test_the_clients_are_loaded_only_where_they_are_needed() -> None:
    """A lake on a disk pays nothing for S3."""
    program = (
        "import sys, neuralake.storage as s; s.open_store('/lake'); "
        "sys.exit(bool({'obstore', 'boto3', 'botocore'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "uri", ["s3://KEY:hidden@lake/t", "s3://lake/t?key=hidden", "s3://lake/t#hidden"]
)
def test_an_address_with_a_secret_in_it_is_refused_unshown(uri: str) -> None:
    with pytest.raises(UsageError, match="without a user, a password") as caught:
        open_store(uri, [], {})

    assert "hidden" not in str(caught.value) + repr(caught.value.facts)
