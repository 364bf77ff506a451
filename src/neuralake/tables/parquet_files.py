"""Which files a Parquet table in an object store has now: at a key, below a folder, or by a glob.

Files and folders whose names begin with `.` or `_` are no data, as Spark and Hive have it. A store
knows no empty folders: what has no files is not there.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neuralake.storage import LogStore

__all__ = ["ParquetFile", "ParquetFiles", "list_parquet"]

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A data file. `name` is relative to the folder below which partition folders are."""

    name: str
    bytes: int
    modified_s: float | None
    """When the store took it, Unix seconds; None if it was not asked."""


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """The data files of a table, sorted by name."""

    store: LogStore
    """Of the folder that the names are relative to."""
    files: tuple[ParquetFile, ...]

    def address(self, file: ParquetFile) -> str:
        """The whole address of one of the files."""
        return f"{self.store.uri.rstrip('/')}/{file.name}"


def list_parquet(uri: str, store_at: Callable[[str], LogStore]) -> ParquetFiles:
    """The files of the table at `uri`; none if nothing is there. One listing of the store."""
    parts = uri.rstrip("/").split("/")
    # `scheme:`, an empty part and the bucket are never a pattern.
    plain = next((at for at, part in enumerate(parts) if at > 2 and _GLOB & set(part)), len(parts))
    if plain < len(parts):
        store, wanted = store_at("/".join(parts[:plain])), parts[plain:]
        return _listed(store, lambda name: _matches(name, wanted))
    found = _listed(store_at(uri.rstrip("/")), _is_data)
    if found.files or len(parts) <= 4 or not uri.endswith(".parquet"):
        return found
    return _one(store_at("/".join(parts[:-1])), parts[-1])


def _listed(store: LogStore, is_wanted: Callable[[str], bool]) -> ParquetFiles:
    files = [
        ParquetFile(file.name, file.bytes, file.modified_s)
        for file in store.files()
        if is_wanted(file.name)
    ]
    return ParquetFiles(store, tuple(sorted(files, key=lambda file: file.name)))


def _one(store: LogStore, name: str) -> ParquetFiles:
    # Asked for by its name: a listing of the folder it is in might be of anything, and long.
    with store.open(name) as file:
        size = None if file is None else file.seek(0, io.SEEK_END)
    return ParquetFiles(store, () if size is None else (ParquetFile(name, size, None),))


def _is_data(name: str) -> bool:
    return name.endswith(".parquet") and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _matches(name: str, wanted: Sequence[str]) -> bool:
    """As a shell does it: `*` stays within a folder, `**` is any number of them."""
    return not _is_hidden(name) and _fits(name.split("/"), wanted)


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])
