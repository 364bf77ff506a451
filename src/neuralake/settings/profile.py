"""How to reach an object store: an endpoint, whose credentials, and how writers take turns there.

A profile says where the secrets are, never what they are, so it may be printed and committed. The
messages of this file leave out what might be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from neuralake.errors import SettingsError

__all__ = ["COORDINATIONS", "StorageProfile", "check_profiles"]

COORDINATIONS = ("conditional-put", "dynamodb")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SCHEMES = ("s3", "s3a")


class StorageProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to reach the object store of the URIs that begin with `uri`.

    Raises:
        SettingsError: a value is not one of those that its key takes; `error.name` is the key.
    """

    uri: str
    """`s3://bucket/` or `s3://bucket/prefix`; of several profiles that fit, the longest counts."""
    coordination: str = "conditional-put"
    """How writers agree on the next commit: `conditional-put`, or `dynamodb` as Spark does."""
    endpoint: str = ""
    """The server, `https://host:port`; empty: AWS."""
    region: str = ""
    """Empty: the environment's, else `us-east-1`."""
    credentials: str = "environment"
    """Where the secrets are: `environment`, `profile:NAME` of AWS' own files, or `file:PATH`."""
    lock_table: str = "delta_log"
    """The DynamoDB table of `coordination = "dynamodb"`, shared with Spark if it writes here."""
    lock_endpoint: str = ""
    """The DynamoDB server; empty: AWS."""
    lock_region: str = ""
    """Empty: `region`."""

    def __post_init__(self) -> None:
        if fault := _fault(self):
            key, message = fault
            raise SettingsError(f"{key} {message}", name=key)

    def seen_from(self, folder: Path) -> StorageProfile:
        """This profile with a relative `file:PATH` made absolute from `folder`."""
        if not self.credentials.startswith("file:"):
            return self
        path = folder / Path(self.credentials.removeprefix("file:")).expanduser()
        return msgspec.structs.replace(self, credentials=f"file:{path}")


def check_profiles(profiles: Mapping[str, StorageProfile]) -> None:
    """Refuse names that no environment variable could spell, and two profiles of one prefix."""
    taken: dict[str, str] = {}
    for name, profile in profiles.items():
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"[storage.{name}]: a profile's name has small letters, digits and `_`, and begins "
                f"with a letter.",
                name=name,
            )
        prefix = profile.uri.split("://", 1)[1].rstrip("/")
        if (other := taken.setdefault(prefix, name)) != name:
            raise SettingsError(
                f"[storage.{other}] and [storage.{name}] are both for {profile.uri}; a prefix has "
                f"one profile.",
                name=name,
            )


def _fault(profile: StorageProfile) -> tuple[str, str] | None:
    """The first key that is not right, and what it must be."""
    parts = urlsplit(profile.uri)
    # Not the value itself where a person may have put a key and a secret: `s3://KEY:SECRET@bucket`.
    if parts.scheme not in _SCHEMES or not _BUCKET.fullmatch(parts.netloc):
        return "uri", "must be s3://bucket/ or s3://bucket/prefix, of a bucket's name alone."
    if parts.query or parts.fragment:
        return "uri", f"is {profile.uri!r}; a prefix has no ? and no #."
    if profile.coordination not in COORDINATIONS:
        known = " or ".join(COORDINATIONS)
        return "coordination", f"is {profile.coordination!r}; it must be {known}."
    for key in ("endpoint", "lock_endpoint"):
        if (value := getattr(profile, key)) and not _is_endpoint(value):
            return key, "must be http://host:port or https://host:port, with nothing else in it."
    kind, _, where = profile.credentials.partition(":")
    if profile.credentials != "environment" and not (kind in ("profile", "file") and where):
        return "credentials", (
            "must be environment, profile:NAME or file:PATH: where the secrets are, never the "
            "secrets themselves."
        )
    if profile.coordination == "dynamodb" and not profile.lock_table:
        return "lock_table", "is empty, but coordination is 'dynamodb'."
    return None


def _is_endpoint(value: str) -> bool:
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    more = parts.query or parts.fragment or "@" in parts.netloc or parts.path not in ("", "/")
    return parts.scheme in ("http", "https") and has_host and not more
