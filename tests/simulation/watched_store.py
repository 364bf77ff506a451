"""The one real store of a run, as a process holds it: the history sees what it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO

from tests.simulation.history import History

from neuralake.storage import Bytes, MemoryStore, Sink, StoredFile

__all__ = ["WatchedStore"]


class WatchedStore:
    """`history.store` in the hands of `owner`. `stamp_age_s_max` as the modelled store has it."""

    def __init__(self, history: History, owner: str, *, stamp_age_s_max: float = 0.0) -> None:
        self._history, self._owner = history, owner
        self._store: MemoryStore = history.store
        self._stamp_age_s_max = stamp_age_s_max

    @property
    def uri(self) -> str:
        return self._store.uri

    @property
    def coordination(self) -> str:
        return self._store.coordination

    @property
    def storage_options(self) -> Mapping[str, str]:
        return self._store.storage_options

    @property
    def stamp_age_s_max(self) -> float:
        return self._stamp_age_s_max

    def put_if_absent(self, name: str, data: Bytes) -> None:
        self._store.put_if_absent(name, data)
        self._history.took(name, bytes(data), self._owner)

    def put(self, files: Mapping[str, Bytes]) -> None:
        self._store.put(files)
        for name, data in files.items():
            self._history.took(name, bytes(data), self._owner)

    def create(self, name: str) -> AbstractContextManager[Sink]:
        raise NotImplementedError("The fault store puts what is created as a whole.")

    def read(self, name: str) -> bytes | None:
        return self._store.read(name)

    def open(self, name: str) -> AbstractContextManager[BinaryIO | None]:
        return self._store.open(name)

    def stamp(self, name: str) -> str | None:
        return self._store.stamp(name)

    def names(self, folder: str, *, after: str = "") -> list[str]:
        return self._store.names(folder, after=after)

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        return self._store.files(folder)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._history.removed(name, self._owner)
            self._store.remove([name])
            if name.startswith("_delta_log/"):
                self._history.check_log()

    def settle(self) -> None:
        self._store.settle()

    def recover(self) -> None:
        self._store.recover()
