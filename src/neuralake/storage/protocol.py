"""What a table needs of the store that its files live in, whatever that store is.

`put_if_absent` is the one atomic step of a commit: of any number of callers for one name exactly
one succeeds, and when it returns the bytes survive power loss. Everything else of a commit can be
repeated or thrown away. Every implementation passes one behaviour suite (`tests/storage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from neuralake.errors import Conflict

__all__ = ["AlreadyThere", "Bytes", "LogStore", "OutcomeUnknown", "Sink", "StoredFile"]

Bytes = bytes | memoryview


class AlreadyThere(Conflict):
    """The name exists; nothing was stored. Facts: `name`."""


class OutcomeUnknown(Conflict):
    """The store did not say whether the put took place: look it up, never guess. Facts: `name`."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a listing shows it. `name` is relative to the table, `/` between folders."""

    name: str
    bytes: int
    modified_s: float
    """When the store took it, Unix seconds by the store's clock."""


class Sink(Protocol):
    """A new file that is being written; see `LogStore.create`."""

    def write(self, data: Bytes, /) -> int: ...


class LogStore(Protocol):
    """One table's folder in a store. Names are relative to it, with `/` between folders.

    Safe for use by several threads. Every method may raise `Unavailable` (no connection, throttled
    for too long, disk full), and then has changed nothing unless it says otherwise.
    """

    @property
    def uri(self) -> str:
        """The table's folder, as delta-rs and Polars take it."""

    @property
    def coordination(self) -> str:
        """How writers of this store agree on the next entry: `local`, `conditional-put`,
        `dynamodb` or `memory`. Two ways on one table lose data."""

    @property
    def storage_options(self) -> Mapping[str, str]:
        """What delta-rs and Polars need to read the same files; has secrets: never show it."""

    @property
    def stamp_age_s_max(self) -> float:
        """How long a stamp is relied on before it is asked for again; 0 where asking is cheap."""

    def put_if_absent(self, name: str, data: Bytes) -> None:
        """Store `data` under `name`, whole and durable, if nothing is there.

        Raises:
            AlreadyThere: something is; nothing was stored.
            OutcomeUnknown: it may or may not have been stored (a lost answer).
            Unavailable: nothing was stored (disk full, read-only, no connection).
        """

    def put(self, files: Mapping[str, Bytes]) -> None:
        """Store files, all durable when this returns; a name that exists is replaced whole.

        Raises Unavailable: none of them may be relied on, and those that were new are removed as
        far as possible.
        """

    def create(self, name: str) -> AbstractContextManager[Sink]:
        """Write a new file piece by piece, in bounded memory.

        It appears whole and durable when the context ends; if it ends with an exception, nothing
        appears under `name`.
        """

    def read(self, name: str) -> bytes | None:
        """The bytes of `name`, or None if it is not there."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO | None]:
        """A seekable file to read parts of `name`; None if it is not there."""

    def stamp(self, name: str) -> str | None:
        """What tells the stored `name` from another that takes its place; None if not there."""

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Names of the files right in `folder` (without it), in order, those behind `after`.

        Empty if there is no such folder. A listing is no snapshot: beside a writer it may show a
        file and miss an older one.
        """

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """Every file below `folder`, hidden ones too, in no order; the same caution as `names`."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that nothing refers to, as far as possible; a missing one is no error."""

    def settle(self) -> None:
        """Make durable every log entry that `read` has shown, whoever wrote it."""

    def recover(self) -> None:
        """Finish commits that another process began and left, so that listings show them."""
