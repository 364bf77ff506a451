"""From the address of a table to the store that its files are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuralake.errors import UsageError
from neuralake.settings import StorageProfile
from neuralake.storage.local import LocalStore
from neuralake.storage.protocol import LogStore
from neuralake.storage.uri import is_local, local_path

__all__ = ["as_store", "open_store"]


def open_store(
    uri: str,
    profiles: Sequence[StorageProfile] = (),  # noqa: ARG001 object stores come next
    environment: Mapping[str, str] | None = None,  # noqa: ARG001 object stores come next
) -> LogStore:
    """The store of the table at `uri`: a path or a `file://` URL.

    Raises:
        UsageError: another scheme, which this version does not commit to.
    """
    if is_local(uri):
        return LocalStore(local_path(uri))
    raise UsageError(
        f"Cannot commit to {uri!r}: this version commits to local folders (a path or file:///…).",
        uri=uri,
    )


def as_store(at: str | LogStore) -> LogStore:
    """`at` itself, or the store of the address that it is."""
    return open_store(at) if isinstance(at, str) else at
