"""What a batch write makes of one data file, and what every kind of batch write can answer.

A change is asked file by file, and its answers are kept while the write is tried again on top of
newer versions: what it makes of a file depends on that file alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from neuralake.delta import DataFile
from neuralake.delta.conflicts import Operation
from neuralake.delta.files import DataFiles, NewFile
from neuralake.errors import NeedsAttention

__all__ = ["Change", "Outcome", "live_rows", "rewrite"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one data file."""

    rewritten: NewFile | None = None
    """Takes the place of the file; None: no row is left, or none was touched."""
    updated: int = 0
    deleted: int = 0
    copied: int = 0
    matched: pa.Array | None = None
    """int64: the source rows of a merge that rows of the file matched, each once."""
    moved: pa.Table | None = None
    """Rows that an update takes to another partition, with all columns of the table."""

    @property
    def is_change(self) -> bool:
        return bool(self.updated or self.deleted)


class Change(Protocol):
    """One batch write."""

    @property
    def operation(self) -> Operation: ...

    @property
    def removes_rows(self) -> bool:
        """Whether it may remove or change a row: no append-only table takes that."""

    def may_touch(self, partition: Mapping[str, str | None], stats: str | None) -> bool:
        """Whether a file must be looked at; statistics as in the log."""

    def outcome(self, files: DataFiles, file: DataFile) -> Outcome:
        """Read what is needed of `file`, and store what takes its place."""

    def added(self, outcomes: Iterable[Outcome], /) -> pa.Table:
        """The rows that are new in their partition, fitted and in order, after all `outcomes`."""

    def parameters(self) -> dict[str, Any]:
        """`operationParameters` of the commit."""


def live_rows(files: DataFiles, file: DataFile) -> int:
    """The rows that a reader sees in `file`, which is read only if the log does not say."""
    if file.live_rows is not None:
        return file.live_rows
    return sum(batch.num_rows for batch in files.read(file))


def rewrite(files: DataFiles, file: DataFile, batches: Iterable[pa.Table], *, rows: int) -> NewFile:
    """Store `batches` to take the place of `file`.

    Raises:
        NeedsAttention: they are not `rows` rows; nothing was kept.
    """
    written = files.write_one(file.partition, batches)
    if written.content.rows != rows:
        files.remove([written])
        raise NeedsAttention(
            f"File {file.path} gave {written.content.rows} rows to keep, and {rows} when it was "
            f"first read.",
            path=file.path,
            missing=False,
        )
    return written
