"""One version of a table, whole: its schema, files, row count and transactions, through delta-rs.

A snapshot never changes; take a newer one to see more. It costs time and memory in proportion to
the table's files, so the commit path does not use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from neuralake.delta.actions import MetaData, ProtocolAction
from neuralake.delta.log import has_log
from neuralake.delta.partition import serialise
from neuralake.delta.protocol import TableState
from neuralake.errors import NeedsAttention, Unavailable, UnknownName
from neuralake.storage import LogStore, as_store, local_path

__all__ = ["DataFile", "Snapshot", "exists", "newest_ms", "open_delta", "snapshot", "state_of"]

# A gap that is still there after so many listings is real.
_TORN_LISTINGS_MAX = 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """A live data file. `path` is as in the log: relative to the table, URL-encoded."""

    path: str
    partition: dict[str, str | None]
    bytes: int
    rows: int | None
    """None if the log does not say."""
    modified_s: float
    """When its rows were committed (Unix seconds), in whole milliseconds; grows with each commit
    of ours, so it gives the order of rows between the files of a partition."""


class Snapshot:
    """A version of a table; make it with `snapshot`."""

    def __init__(self, table: DeltaTable) -> None:
        self.delta_table = table
        """The `deltalake.DeltaTable` at this version."""
        self.version: int = table.version()
        self._state = state_of(table)
        self._files: list[DataFile] | None = None

    @property
    def schema(self) -> pa.Schema:
        return self._state.schema

    @property
    def partition_by(self) -> tuple[str, ...]:
        return self._state.partition_by

    @property
    def state(self) -> TableState:
        return self._state

    @property
    def files(self) -> list[DataFile]:
        """The live files, oldest rows first."""
        if self._files is None:
            self._files = _files(self.delta_table, self.partition_by)
        return self._files

    @property
    def rows(self) -> int | None:
        """Rows of the table by the log's statistics; None if a file has none."""
        total = 0
        for file in self.files:
            if file.rows is None:
                return None
            total += file.rows
        return total

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def txn(self, app_id: str) -> int | None:
        """The highest transaction version of `app_id` that this version of the table holds."""
        found: int | None = self.delta_table.transaction_version(app_id)
        return found


def snapshot(at: str | LogStore, version: int | None = None) -> Snapshot:
    """The table at `at`, now or as of `version`.

    Raises:
        UnknownName: there is no table, or no such version any more.
        UnsupportedFeature: the table needs a feature that we do not implement.
    """
    return Snapshot(open_delta(at, version))


def exists(at: str | LogStore) -> bool:
    """Whether a Delta table is at `at`."""
    return has_log(as_store(at))


def open_delta(at: str | LogStore, version: int | None = None) -> DeltaTable:
    """delta-rs's table at `at`.

    Raises:
        UnknownName: there is no table, or no such `version` of it; with `kind`, `name`.
        NeedsAttention: the log cannot be read.
    """
    store = as_store(at)
    uri = store.uri
    if not exists(store):
        raise UnknownName(f"There is no Delta table at {uri}.", kind="table", name=uri, known=[])
    try:
        return _open(store, version)
    except TableNotFoundError as error:
        raise UnknownName(
            f"There is no Delta table at {uri}.", kind="table", name=uri, known=[]
        ) from error
    except DeltaError as error:
        if version is not None:
            newest = open_delta(store).version()
            # delta-rs says it in words of its parts, such as "LogSegment end version 1".
            why = (
                f"the newest is {newest}"
                if version > newest
                else f"the log entries of that time are gone, or cannot be read ({error})"
            )
            raise UnknownName(
                f"There is no version {version} of {uri}: {why}.",
                kind="version",
                name=str(version),
                known=[],
                newest=newest,
            ) from error
        raise NeedsAttention(f"The log of {uri} cannot be read: {error}", uri=uri) from error
    except OSError as error:
        raise Unavailable(f"The log of {uri} cannot be read: {error}", uri=uri) from error


def _open(store: LogStore, version: int | None) -> DeltaTable:
    # A folder's listing is no snapshot: beside a busy writer it may have an entry and miss the one
    # before it, which delta-rs reports as a gap (seen in 2 of 100 opens at 180 commits a second).
    for _ in range(_TORN_LISTINGS_MAX):
        try:
            return DeltaTable(local_path(store.uri), version=version)
        except DeltaError as error:
            if "Expected contiguous commit files" not in str(error):
                raise
    return DeltaTable(local_path(store.uri), version=version)


def state_of(table: DeltaTable) -> TableState:
    """Protocol, metadata and schema of an opened table, checked.

    Raises:
        UnsupportedFeature: it needs a feature that we do not implement.
    """
    found, metadata = table.protocol(), table.metadata()
    protocol = ProtocolAction(
        min_reader_version=found.min_reader_version,
        min_writer_version=found.min_writer_version,
        reader_features=found.reader_features,
        writer_features=found.writer_features,
    )
    return TableState.of(
        protocol,
        MetaData(
            id=str(metadata.id),
            name=metadata.name,
            description=metadata.description,
            schema_string=table.schema().to_json(),
            partition_columns=list(metadata.partition_columns),
            configuration={key: value or "" for key, value in metadata.configuration.items()},
            created_time=metadata.created_time,
        ),
    )


def newest_ms(table: DeltaTable) -> int:
    """The newest commit time of a live file (Unix milliseconds); 0 if there is none."""
    newest: int | None = pc.max(pa.table(table.get_add_actions())["modification_time"]).as_py()
    return newest or 0


def _files(table: DeltaTable, partition_by: tuple[str, ...]) -> list[DataFile]:
    actions = pa.table(table.get_add_actions())
    columns: dict[str, list[Any]] = {
        name: actions[name].to_pylist()
        for name in ("path", "size_bytes", "num_records", "modification_time")
    }
    partitions = actions["partition"].to_pylist() if partition_by else [{}] * len(actions)
    files = [
        DataFile(
            path,
            {name: serialise(values[name], column=name) for name in partition_by},
            size,
            rows,
            modified_ms / 1000,
        )
        for path, size, rows, modified_ms, values in zip(*columns.values(), partitions, strict=True)
    ]
    return sorted(files, key=lambda file: (file.modified_s, file.path))
