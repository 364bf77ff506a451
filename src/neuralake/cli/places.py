"""The places that `neuralake storage` is asked about: tables, addresses and profiles, and their
stores in each way that writers may agree."""

from __future__ import annotations

import os
from dataclasses import dataclass

import msgspec

from neuralake.catalog import Catalog
from neuralake.cli.inspect import find_definition
from neuralake.delta.coordination import COORDINATION, LOCK_TABLE, TABLE_PATH
from neuralake.errors import UsageError
from neuralake.queue.topic import topic_of
from neuralake.settings import COORDINATIONS, Settings, StorageProfile
from neuralake.storage import CoordinatedStore, LogStore, is_local, open_store
from neuralake.tables import DeltaTable

__all__ = ["Place", "open_as", "place_of", "places_of", "profile_of"]

# What deltalake reads; in a change of coordination one of the two ways is not the environment's.
_LOCKING = ("AWS_S3_LOCKING_PROVIDER", "DELTA_DYNAMO_TABLE_NAME")


@dataclass(frozen=True, slots=True)
class Place:
    """A Delta table: what people call it, and its address."""

    name: str
    uri: str


def places_of(catalog: Catalog) -> list[Place]:
    """The Delta tables of the catalog that are in object stores."""
    return [
        Place(topic_of(database, found.name), uri)
        for database, found in catalog.definitions()
        if isinstance(found, DeltaTable) and not is_local(uri := catalog.uri_of(found))
    ]


def place_of(catalog: Catalog, text: str) -> Place:
    """The table that `text` names: `database.table`, or an address.

    Raises:
        UnknownName: there is no such table.
        UsageError: it is not in an object store.
    """
    if "://" in text:
        place = Place(text, text)
    else:
        database, found = find_definition(catalog, text)
        place = Place(topic_of(database, found.name), catalog.uri_of(found))
    if is_local(place.uri):
        raise UsageError(
            f"{place.name} is at {place.uri}: writers of a local table always agree through its "
            f"folder, and there is nothing to set up, to repair or to change.",
            uri=place.uri,
        )
    return place


def profile_of(settings: Settings, uri: str) -> StorageProfile:
    """The profile of `uri`, by its longest prefix; without one, what AWS' own variables say."""
    parts = uri.split("/")
    whole = "s3://" + "/".join(parts[2:]).strip("/") + "/"
    fitting = [
        (prefix, profile)
        for profile in settings.profiles
        if whole.startswith(prefix := "s3://" + profile.uri.partition("://")[2].strip("/") + "/")
    ]
    if fitting:
        return max(fitting, key=lambda each: len(each[0]))[1]
    return StorageProfile(uri=f"s3://{parts[2]}/")


def open_as(settings: Settings, uri: str, recorded: dict[str, str]) -> LogStore:
    """The store of the table at `uri` for writers that agree as `recorded` says.

    What is not recorded is as the profile has it.
    """
    profile = profile_of(settings, uri)
    mode = recorded.get(COORDINATION) or profile.coordination
    if mode not in COORDINATIONS:
        raise UsageError(
            f"{mode!r} is no way for writers to agree. There are: {', '.join(COORDINATIONS)}.",
            name=mode,
            known=list(COORDINATIONS),
        )
    lock_table = recorded.get(LOCK_TABLE) or profile.lock_table
    profile = msgspec.structs.replace(profile, coordination=mode, lock_table=lock_table)
    environment = {name: text for name, text in os.environ.items() if name not in _LOCKING}
    store = open_store(uri, [profile], environment)
    path = recorded.get(TABLE_PATH)
    return store.spelled(path) if path and isinstance(store, CoordinatedStore) else store
