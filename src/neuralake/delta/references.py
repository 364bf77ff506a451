"""Which files in a table's folder its versions need, and which the log says were replaced.

Pure. When in doubt a file is kept: it is needed if any reading of a path in the log (URL-encoded or
not, absolute or not) could mean it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from neuralake.delta.actions import DeletionVector
from neuralake.delta.deletion_vector import vector_file
from neuralake.errors import NeedsAttention, UnsupportedFeature
from neuralake.storage import LogStore

__all__ = ["References", "Replaced", "is_below_table", "is_change_file"]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file whose tombstone is older than the retention."""

    bytes: int
    deleted_s: float


@dataclass(slots=True)
class References:
    """What the log says of the files in a table's folder; filled by `keep` and `take_removes`."""

    store: LogStore
    """Where the table is: only its address is asked for."""
    replaced: dict[str, Replaced] = field(default_factory=dict)
    """By name in the store. Of these, what is also needed must be kept: ask `needs`."""
    _names: set[str] = field(default_factory=set)
    _bases: set[str] = field(default_factory=set)

    def keep(self, path: str, vector: DeletionVector | None) -> None:
        """A version inside the retention has the file `path`, as in the log."""
        for text in (path, unquote(path)):
            self._names.add(text)
            if _is_absolute(text):
                # Perhaps in this folder, in another spelling of its address.
                self._bases.add(text.rsplit("/", 1)[-1])
        if vector is not None and (name := self._vector_name(vector)) is not None:
            self.keep(name, None)

    def _bury(
        self, path: str, vector: DeletionVector | None, *, deleted_s: float, size_bytes: int
    ) -> None:
        """No version inside the retention has `path` by this tombstone; others may."""
        self.replaced[unquote(path)] = Replaced(size_bytes, deleted_s)
        if vector is not None and (name := self._vector_name(vector)) is not None:
            self.replaced[unquote(name)] = Replaced(vector.size_in_bytes, deleted_s)

    def needs(self, name: str) -> bool:
        """Whether a version inside the retention may need the stored file `name`."""
        readings = (name, unquote(name), quote(name, safe="/=-._~"))
        return any(text in self._names for text in readings) or (
            bool(self._bases) and any(text.rsplit("/", 1)[-1] in self._bases for text in readings)
        )

    def _vector_name(self, vector: DeletionVector) -> str | None:
        """The name of a vector's file; an address outside the table stays one; None: no file."""
        try:
            return vector_file(vector, self.store)
        except UnsupportedFeature:
            return vector.path_or_inline_dv
        except (ValueError, KeyError) as error:
            raise NeedsAttention(
                f"The log of {self.store.uri} names a deletion vector that cannot be: "
                f"{vector.path_or_inline_dv!r}. Nothing is deleted.",
                uri=self.store.uri,
            ) from error

    def take_removes(
        self, removes: Iterable[dict[str, Any]], *, now_s: float, retention_s: float
    ) -> None:
        """Sort tombstones, as dicts of the log's fields, into needed and replaced ones."""
        for remove in removes:
            vector = _vector(remove.get("deletionVector"))
            deleted_ms = remove.get("deletionTimestamp")
            # Without a time, nobody can say that it was long ago.
            if deleted_ms is None or now_s - deleted_ms / 1000 <= retention_s:
                self.keep(remove["path"], vector)
            else:
                self._bury(
                    remove["path"],
                    vector,
                    deleted_s=deleted_ms / 1000,
                    size_bytes=remove.get("size") or 0,
                )


def is_below_table(name: str, partition_by: Iterable[str]) -> bool:
    """Whether `name` is where data files may be: inside the table, and not hidden.

    Folders that begin with `_` or `.` belong to somebody else (the log, leases, other engines'
    indexes), unless a partition column is called so.
    """
    starts = tuple(f"{quote(column, safe='')}=" for column in partition_by)
    starts += tuple(f"{column}=" for column in partition_by)
    parts = name.split("/")
    return all(
        part not in ("", ".", "..")
        and (part[0] not in "._" or (part.startswith(starts) and index < len(parts) - 1))
        for index, part in enumerate(parts)
    )


def is_change_file(name: str) -> bool:
    """Whether `name` is a file of the change data feed."""
    return name.startswith("_change_data/")


def _vector(found: dict[str, Any] | None) -> DeletionVector | None:
    if found is None:
        return None
    return DeletionVector(
        storage_type=found["storageType"],
        path_or_inline_dv=found["pathOrInlineDv"],
        offset=found.get("offset"),
        size_in_bytes=found["sizeInBytes"],
        cardinality=found["cardinality"],
    )


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "file:")) or "://" in path
