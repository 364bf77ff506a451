"""Data files on their way into a table: rows become Parquet in the store, and wait for a commit.

Nothing refers to such a file before its commit; without one it is an orphan, which no reader sees.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa

from neuralake.delta.actions import Add
from neuralake.delta.parquet import EncodedFile, Encoder
from neuralake.delta.partition import folder, normalise, split
from neuralake.delta.protocol import TableState
from neuralake.schema import conform
from neuralake.storage import LogStore

__all__ = ["DataFiles", "NewFile", "store_name"]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A data file that was stored and waits for its commit."""

    name: str
    partition: dict[str, str | None]
    content: EncodedFile

    def add(self, *, modified_ms: int, data_change: bool) -> Add:
        return Add(
            path=quote(self.name, safe="/=-._~"),
            partition_values=self.partition,
            size=len(self.content.data),
            modification_time=modified_ms,
            data_change=data_change,
            stats=self.content.stats,
        )


def store_name(path: str) -> str:
    """The name in the store of an `add.path`, which is URL-encoded."""
    return unquote(path)


class DataFiles:
    """Writes data files of a table with one schema; a changed table needs another."""

    def __init__(self, store: LogStore, state: TableState) -> None:
        self.state = state
        self._store = store
        body = [field for field in state.schema if field.name not in state.partition_by]
        self._encoder = Encoder(pa.schema(body))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the files: all of the table's but the partition columns."""
        return self._encoder.schema

    def fit(self, rows: pa.Table) -> pa.Table:
        """`rows` with exactly the table's columns and what its partitions can hold.

        Raises:
            SchemaMismatch: they do not fit.
            InvalidRows: a partition value has no text form.
        """
        state = self.state
        return normalise(conform(rows, state.schema, name=self._store.uri), state.partition_by)

    def write(self, rows: pa.Table) -> list[NewFile]:
        """Store fitted `rows`, one file per partition value, all durable."""
        label = uuid.uuid4().hex
        files = [
            NewFile(
                f"{folder(values)}part-{i:05d}-{label}.parquet", values, self._encoder.encode(part)
            )
            for i, (values, part) in enumerate(split(rows, self.state.partition_by))
        ]
        if files:
            self._store.put({file.name: file.content.data for file in files})
        return files

    def write_one(self, partition: dict[str, str | None], batches: Iterable[pa.Table]) -> NewFile:
        """Store `batches` (columns as `schema`) of one partition as one durable file."""
        content = self._encoder.encode_all(batches)
        name = f"{folder(partition)}part-00000-{uuid.uuid4().hex}.parquet"
        self._store.put({name: content.data})
        return NewFile(name, partition, content)

    def remove(self, files: Iterable[NewFile]) -> None:
        """Remove files whose commit certainly does not exist."""
        self._store.remove(file.name for file in files)
