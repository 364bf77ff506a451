"""From the address of a table to the store that its files are in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from neuralake.errors import SettingsError, UsageError
from neuralake.settings import StorageProfile
from neuralake.storage.access import Access, credentials_of
from neuralake.storage.bucket import Bucket
from neuralake.storage.coordinated import CoordinatedStore
from neuralake.storage.dynamodb import LockTable
from neuralake.storage.local import LocalStore
from neuralake.storage.protocol import LogStore
from neuralake.storage.s3 import S3Store
from neuralake.storage.uri import is_local, local_path

__all__ = ["as_store", "open_store"]

# One place in the same bucket, three ways in which Hadoop spells it.
_S3 = re.compile(r"(?P<scheme>s3[an]?)://(?P<bucket>[^/?#]+)(?:/(?P<prefix>.*))?")

# A user and a password before the bucket, a query or a fragment behind the folder.
_MORE = re.compile(r"^\w+://[^/]*@|[?#]")


def open_store(
    uri: str,
    profiles: Sequence[StorageProfile] = (),
    environment: Mapping[str, str] | None = None,
) -> LogStore:
    """The store of the table at `uri`: a path, a `file://` URL or an `s3://` URL.

    The profile with the longest `uri` that `uri` begins with says how to reach it; without one,
    AWS' own variables do. `s3a://` and `s3n://` name the same place as `s3://`; but a lock table
    has the table under the address as it is given here, because that is how Spark and deltalake
    look for it. Nothing is asked of a server yet.

    Raises:
        SettingsError: no credentials where the profile says, or the environment asks for another
            coordination than the profile.
        MissingExtra: the coordination needs a library that is not installed.
        UsageError: another scheme, which this version does not commit to; or a user, a password or
            a query in the address.
    """
    if is_local(uri):
        return LocalStore(local_path(uri))
    if _MORE.search(uri):
        # Without the address: what is in there may be a key and its secret.
        raise UsageError(
            "The address of a table in an object store is a bucket and a folder, "
            "s3://bucket/folder, without a user, a password, ? or #. Secrets belong in the "
            "environment, or where the `credentials` of its storage profile say."
        )
    found = _S3.fullmatch(uri)
    if found is None or not (prefix := (found["prefix"] or "").strip("/")):
        raise UsageError(
            f"Cannot commit to {uri!r}: this version commits to local folders (a path or file:///…)"
            f" and to folders of S3 buckets (s3://bucket/folder).",
            uri=uri,
        )
    environment = os.environ if environment is None else environment
    bucket = found["bucket"]
    profile = _profile(f"s3://{bucket}/{prefix}", profiles)
    _check_environment(uri, profile, environment)
    access = _access(bucket, profile, environment)
    store = S3Store(Bucket(access), prefix, access)
    if profile is None or profile.coordination != "dynamodb":
        return store
    table_path = f"{found['scheme']}://{bucket}/{prefix}"
    locks = LockTable(profile.lock_table, access)
    return CoordinatedStore(store, locks, table_path=table_path)


def as_store(at: str | LogStore) -> LogStore:
    """`at` itself, or the store of the address that it is."""
    return open_store(at) if isinstance(at, str) else at


def _profile(uri: str, profiles: Sequence[StorageProfile]) -> StorageProfile | None:
    """The profile with the longest prefix of whole folders."""
    fitting = [profile for profile in profiles if f"{uri}/".startswith(_folder(profile))]
    return max(fitting, key=lambda profile: len(_folder(profile)), default=None)


def _folder(profile: StorageProfile) -> str:
    return "s3://" + profile.uri.partition("://")[2].strip("/") + "/"


def _access(bucket: str, profile: StorageProfile | None, environment: Mapping[str, str]) -> Access:
    spec = profile.credentials if profile else "environment"
    credentials, source = credentials_of(spec, environment)
    region = (
        (profile.region if profile else "")
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    everywhere = environment.get("AWS_ENDPOINT_URL", "")
    return Access(
        bucket=bucket,
        source=source,
        credentials=credentials,
        region=region,
        endpoint=(profile.endpoint if profile else "")
        or environment.get("AWS_ENDPOINT_URL_S3", everywhere),
        lock_region=(profile.lock_region if profile else "") or region,
        lock_endpoint=(profile.lock_endpoint if profile else "")
        or environment.get("AWS_ENDPOINT_URL_DYNAMODB", everywhere),
    )


def _check_environment(
    uri: str, profile: StorageProfile | None, environment: Mapping[str, str]
) -> None:
    """Refuse variables by which deltalake in this environment would coordinate otherwise.

    Two ways of taking turns on one table lose commits without an error.
    """
    ours = profile.coordination if profile else "conditional-put"
    where = f"the storage profile of {profile.uri}" if profile else "no storage profile, so the"
    theirs = environment.get("AWS_S3_LOCKING_PROVIDER", "")
    if theirs and (theirs.lower() == "dynamodb") != (ours == "dynamodb"):
        raise SettingsError(
            f"AWS_S3_LOCKING_PROVIDER is {theirs!r} in the environment, but {where} says "
            f"coordination {ours!r} for {uri}: writers that take turns in two ways lose each "
            f"other's commits. Remove the variable, or set coordination in the profile to match.",
            uri=uri,
            environment=theirs,
            coordination=ours,
        )
    table = environment.get("DELTA_DYNAMO_TABLE_NAME", "")
    if profile is not None and ours == "dynamodb" and table and table != profile.lock_table:
        raise SettingsError(
            f"DELTA_DYNAMO_TABLE_NAME is {table!r} in the environment, but {where} says "
            f"lock_table {profile.lock_table!r}: two lock tables are no lock.",
            uri=uri,
            environment=table,
            lock_table=profile.lock_table,
        )
