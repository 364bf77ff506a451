"""A table's folder in memory, for tests, simulations and scratch tables of one process.

It behaves as the other stores do, and forgets everything with its last reference.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from neuralake.clock import Clock, SystemClock
from neuralake.storage.protocol import AlreadyThere, Bytes, Sink, StoredFile

__all__ = ["MemoryStore"]


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes
    modified_s: float
    number: int


class MemoryStore:
    """See the module. `name` tells stores of one process apart; `clock` gives files their times."""

    def __init__(self, name: str = "table", *, clock: Clock | None = None) -> None:
        self._name, self._clock = name, clock or SystemClock()
        self._files: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._count = 0

    @property
    def uri(self) -> str:
        return f"memory://{self._name}"

    @property
    def coordination(self) -> str:
        return "memory"

    @property
    def storage_options(self) -> Mapping[str, str]:
        return {}

    @property
    def stamp_age_s_max(self) -> float:
        return 0.0

    def put_if_absent(self, name: str, data: Bytes) -> None:
        with self._lock:
            if name in self._files:
                raise AlreadyThere(f"{name!r} is already there.", name=name)
            self._keep(name, data)

    def put(self, files: Mapping[str, Bytes]) -> None:
        with self._lock:
            for name, data in files.items():
                self._keep(name, data)

    @contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        buffer = io.BytesIO()
        yield buffer
        self.put({name: buffer.getvalue()})

    def read(self, name: str) -> bytes | None:
        held = self._files.get(name)
        return None if held is None else held.data

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO | None]:
        data = self.read(name)
        yield None if data is None else io.BytesIO(data)

    def stamp(self, name: str) -> str | None:
        held = self._files.get(name)
        return None if held is None else f"{held.number}"

    def names(self, folder: str, *, after: str = "") -> list[str]:
        start = f"{folder}/" if folder else ""
        with self._lock:
            rest = [name[len(start) :] for name in self._files if name.startswith(start)]
        return sorted(name for name in rest if "/" not in name and name > after)

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        start = f"{folder}/" if folder else ""
        with self._lock:
            found = [*self._files.items()]
        for name, held in found:
            if name.startswith(start):
                yield StoredFile(name, len(held.data), held.modified_s)

    def remove(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._files.pop(name, None)

    def settle(self) -> None:
        """Nothing to do: what can be read is as durable as it gets."""

    def recover(self) -> None:
        """Nothing to do: a commit here is one step."""

    def _keep(self, name: str, data: Bytes) -> None:
        self._count += 1
        self._files[name] = _Held(bytes(data), self._clock.now_s(), self._count)
