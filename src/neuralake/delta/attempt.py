"""One attempt to commit: what it depends on, what it saw of others, and the files it stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from neuralake.delta.actions import Action, Add, Remove
from neuralake.delta.conflicts import Footprint, Operation, conflict
from neuralake.delta.files import DataFiles, NewFile
from neuralake.delta.log import Entry
from neuralake.delta.protocol import TableState
from neuralake.errors import CommitConflict, UnsupportedFeature, UsageError

__all__ = ["Attempt", "StoredRows", "refuse_changes"]


class Attempt:
    """One call of `commit`: its id, and what it has seen of others since it began."""

    def __init__(
        self,
        commit_id: str,
        footprint: Footprint,
        state: TableState,
        on_entry: Callable[[Entry], None] = lambda _entry: None,
    ) -> None:
        self.commit_id = commit_id
        self.paths: list[str] = []
        self.operation = footprint.operation
        self._footprint, self._on_entry = footprint, on_entry
        self._serializable = state.properties.serializable
        self._reason: str | None = None

    def see(self, entry: Entry) -> None:
        self._on_entry(entry)
        known = self._footprint.version
        if self._reason is None and (known is None or entry.version > known):
            self._reason = conflict(self._footprint, entry, serializable=self._serializable)

    def raise_conflict(self, version: int) -> None:
        if self._reason is not None:
            operation = self._footprint.operation.value
            raise CommitConflict(
                f"This {operation} cannot be committed: {self._reason}. Read again.",
                version=version,
                reason=self._reason,
            )


class StoredRows:
    """The rows of an append as data files, which may have to be written more than once."""

    def __init__(self, writer: DataFiles, rows: pa.Table) -> None:
        self.writer, self.rows = writer, rows
        self.files: list[NewFile] = writer.write(rows)

    def adds(self, now_ms: int) -> list[Action]:
        return [file.add(modified_ms=now_ms, data_change=True) for file in self.files]

    def renew(self, writer: DataFiles, rows: pa.Table) -> None:
        """Store `rows` as the table is now, in place of the files that there are."""
        fitted = writer.fit(rows)
        files = writer.write(fitted)
        self.drop()
        self.writer, self.rows, self.files = writer, fitted, files

    def drop(self) -> None:
        """Remove files whose commit certainly does not exist."""
        self.writer.remove(self.files)
        self.files = []


def refuse_changes(
    state: TableState, actions: Sequence[Action], operation: Operation, *, uri: str
) -> None:
    """Refuse to change rows where the table's properties ask for more than we do."""
    properties = state.properties
    if not any(isinstance(action, Remove) and action.data_change for action in actions):
        return
    if properties.append_only:
        raise UsageError(
            f"{uri} has delta.appendOnly: no row of it can be removed or changed.",
            property="delta.appendOnly",
        )
    if (
        properties.change_data_feed
        and operation is not Operation.OVERWRITE
        and any(isinstance(action, Add) for action in actions)
    ):
        raise UnsupportedFeature(
            f"{uri} has a change data feed: a {operation.value} must write which "
            f"rows it changed, which we do not. Delete or overwrite whole files, or use the "
            f"engine that turned the feed on.",
            features=["changeDataFeed"],
        )
