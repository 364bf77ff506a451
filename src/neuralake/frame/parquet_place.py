"""Where the Parquet files of a frame are, looked at anew for each plan: a path, or a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from neuralake.storage import LogStore
from neuralake.tables.parquet_files import list_parquet

__all__ = ["Found", "LocalPlace", "Place", "StorePlace"]

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Found:
    """The data files that are there now, by the address of their folder, both in order."""

    base: str
    """The folder below which partition folders are: all of the address before a glob."""
    folders: Mapping[str, list[str]]
    is_folder: bool
    """Whether there is a folder, perhaps without files."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What Polars needs to reach the files; has secrets."""

    def files(self) -> list[str]:
        return [file for files in self.folders.values() for file in files]

    def first(self) -> Found:
        """One file of all, to ask for its columns."""
        one = {folder: files[:1] for folder, files in list(self.folders.items())[:1]}
        return Found(self.base, one, self.is_folder, self.options)

    def parts(self, folder: str) -> list[str]:
        """The names of the folders from the base to `folder`."""
        inside = folder.removeprefix(self.base).strip("/")
        return inside.split("/") if inside else []


class Place(Protocol):
    """Where to look; as text, what errors call it."""

    def found(self) -> Found: ...


class LocalPlace:
    """A file, a folder or a glob of the file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def found(self) -> Found:
        return Found(str(self._base()), _by_folder(sorted(self._listed())), self._path.is_dir())

    def _listed(self) -> Iterator[str]:
        if self._path.is_file():
            yield str(self._path)
        elif self._path.is_dir():
            for folder, folders, files in os.walk(self._path, followlinks=True):
                folders[:] = [name for name in folders if name[0] not in "._"]
                for name in files:
                    if name.endswith(".parquet") and name[0] not in "._":
                        yield os.path.join(folder, name)  # noqa: PTH118 a Path a file is slow
        elif _GLOB.intersection(str(self._path)):
            base = self._base()
            for match in base.glob(str(self._path.relative_to(base))):
                inside = match.relative_to(base).parts
                if match.is_file() and not any(part[0] in "._" for part in inside):
                    yield str(match)

    def _base(self) -> Path:
        if self._path.is_dir():
            return self._path
        plain = [
            not _GLOB.intersection(part) or part == self._path.anchor for part in self._path.parts
        ]
        if False in plain:
            return Path(*self._path.parts[: plain.index(False)])
        return self._path.parent


class StorePlace:
    """A key, a folder or a glob of an object store; one listing each time."""

    def __init__(self, uri: str, store_at: Callable[[str], LogStore]) -> None:
        self._uri, self._store_at = uri, store_at

    def __str__(self) -> str:
        return self._uri

    def found(self) -> Found:
        listed = list_parquet(self._uri, self._store_at)
        files = [listed.address(file) for file in listed.files]
        store = listed.store
        return Found(store.uri.rstrip("/"), _by_folder(files), False, store.storage_options)


def _by_folder(files: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(file.rpartition("/")[0], []).append(file)
    return found
