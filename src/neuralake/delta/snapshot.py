"""One version of a table, whole: its schema, files, row count and transactions.

A snapshot never changes; take a newer one to see more. Opening it costs the same for ten files or
a million; `files` costs time and memory in proportion to them. It is read from the log by our own
code (`replay.py`); delta-rs only opens the same version again for those who read rows through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from neuralake.delta.actions import Add, DeletionVector, DomainMetadata
from neuralake.delta.checkpoint_names import hinted
from neuralake.delta.log import has_log
from neuralake.delta.protocol import TableState
from neuralake.delta.replay import LogState, replay
from neuralake.errors import NeedsAttention, Unavailable, UnknownName
from neuralake.storage import LogStore, as_store, is_local, local_path

__all__ = ["DataFile", "Snapshot", "data_file", "exists", "open_delta", "snapshot"]

# A gap that is still there after so many listings is real.
_TORN_LISTINGS_MAX = 20
# So many log entries are read at once without a thought.
_ENTRIES_FEW = 100
_FIELDS = (
    "path",
    "partitionValues",
    "size",
    "modificationTime",
    "stats",
    "tags",
    "deletionVector",
)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A live data file. `path` is as in the log: relative to the table, URL-encoded."""

    path: str
    partition: dict[str, str | None]
    """The text of its partition values by column, in the table's order."""
    bytes: int
    rows: int | None
    """Rows in the file, deleted ones too; None if the log does not say."""
    modified_s: float
    """When its rows were committed (Unix seconds), in whole milliseconds; grows with each commit
    of ours, so it gives the order of rows between the files of a partition."""
    stats: str | None = None
    """Statistics as the log has them, JSON text."""
    deletion_vector: DeletionVector | None = None
    """Which of its rows are deleted."""
    tags: dict[str, str | None] | None = None
    """What its writer noted of it."""

    @property
    def live_rows(self) -> int | None:
        """Rows that a reader sees; None if the log does not say."""
        deleted = 0 if self.deletion_vector is None else self.deletion_vector.cardinality
        return None if self.rows is None else self.rows - deleted


class Snapshot:
    """A version of a table; make it with `snapshot`."""

    def __init__(self, store: LogStore, log: LogState, *, to_read: bool = False) -> None:
        self.store = store
        self.log = log
        """What the log says, with the files as Arrow columns."""
        state = TableState.to_read if to_read else TableState.of
        self.state = state(log.protocol, log.metadata)
        """Protocol, metadata and schema, checked."""
        # Not cached_property: in Python 3.11 it has one lock for all snapshots of the process, and
        # what follows waits for the store.
        self._files: list[DataFile] | None = None
        self._delta_table: DeltaTable | None = None

    @property
    def version(self) -> int:
        return self.log.version

    @property
    def schema(self) -> pa.Schema:
        return self.state.schema

    @property
    def partition_by(self) -> tuple[str, ...]:
        return self.state.partition_by

    @property
    def domains(self) -> dict[str, DomainMetadata]:
        """Domain metadata by domain."""
        return self.log.domains

    @property
    def files(self) -> list[DataFile]:
        """The live files, oldest rows first."""
        if self._files is None:
            keys, actions = _partition_keys(self.state), self.log.files
            kept = (file for adds in actions.kept_adds(_FIELDS) for file in _data_files(adds, keys))
            newer = (_data_file(add, keys) for add in actions.newer_adds())
            self.know((*kept, *newer))
            assert self._files is not None  # noqa: S101 for mypy
        return self._files

    def know(self, files: Iterable[DataFile]) -> None:
        """Take `files` for its live ones, from who has them already."""
        self._files = sorted(files, key=lambda file: (file.modified_s, file.path))

    @property
    def rows(self) -> int | None:
        """Rows of the table by the log's statistics; None if a file has none."""
        total = 0
        for file in self.files:
            if file.live_rows is None:
                return None
            total += file.live_rows
        return total

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def txn(self, app_id: str) -> int | None:
        """The transaction version of `app_id` that this version of the table holds."""
        found = self.log.txns.get(app_id)
        return None if found is None else found.version

    @property
    def entries_past_checkpoint(self) -> int:
        """Log entries that are read to open this version, behind the checkpoint the log names."""
        kept = len(self.log.entries)
        if kept <= _ENTRIES_FEW:
            return kept  # More were not read, and nobody is asked.
        found = hinted(self.store)
        if found is None or found.version > self.version:
            return kept
        return min(kept, self.version - found.version)

    @property
    def delta_table(self) -> DeltaTable:
        """The `deltalake.DeltaTable` at this version, to read rows with; opened when first asked.

        Raises:
            UnknownName: the version was cleaned up since.
            UnsupportedFeature: the table is not in a store that delta-rs reads.
        """
        if self._delta_table is None:
            self._delta_table = open_delta(self.store, self.version)
        return self._delta_table


def snapshot(at: str | LogStore, version: int | None = None, *, to_read: bool = False) -> Snapshot:
    """The table at `at`, now or as of `version`.

    Args:
        to_read: nothing will be written: what the table asks of its writers does not matter, and
            columns of types that we do not know are left out.

    Raises:
        UnknownName: there is no table, or no such version any more.
        UnsupportedFeature: the table needs a feature that we do not implement.
        NeedsAttention: the log is damaged.
    """
    store = as_store(at)
    return Snapshot(store, replay(store, version), to_read=to_read)


def exists(at: str | LogStore) -> bool:
    """Whether a Delta table is at `at`."""
    return has_log(as_store(at))


def open_delta(at: str | LogStore, version: int | None = None) -> DeltaTable:
    """delta-rs's table at `at`, to read its rows.

    Raises:
        UnknownName: there is no table, or no such `version` of it; with `kind`, `name`.
        NeedsAttention: the log cannot be read.
    """
    store = as_store(at)
    uri = store.uri
    if not exists(store):
        raise UnknownName(f"There is no Delta table at {uri}.", kind="table", name=uri, known=[])
    store.recover()
    try:
        return _open(store, version)
    except TableNotFoundError as error:
        raise UnknownName(
            f"There is no Delta table at {uri}.", kind="table", name=uri, known=[]
        ) from error
    except DeltaError as error:
        if version is not None:
            # Says it in our words, if the version is not there: delta-rs speaks of its parts.
            replay(store, version)
        raise NeedsAttention(f"The log of {uri} cannot be read: {error}", uri=uri) from error
    except OSError as error:
        raise Unavailable(f"The log of {uri} cannot be read: {error}", uri=uri) from error


def _open(store: LogStore, version: int | None) -> DeltaTable:
    uri = local_path(store.uri) if is_local(store.uri) else store.uri
    options = dict(store.storage_options) or None
    # A folder's listing is no snapshot: beside a busy writer it may have an entry and miss the one
    # before it, which delta-rs reports as a gap (seen in 2 of 100 opens at 180 commits a second).
    for _ in range(_TORN_LISTINGS_MAX):
        try:
            return DeltaTable(uri, version=version, storage_options=options)
        except DeltaError as error:
            if "Expected contiguous commit files" not in str(error):
                raise
    return DeltaTable(uri, version=version, storage_options=options)


class _Stats(msgspec.Struct, rename="camel"):
    num_records: int | None = None


_STATS = msgspec.json.Decoder(_Stats)


def data_file(add: Add, state: TableState) -> DataFile:
    """The file that an `add` of a table in `state` brings."""
    return _data_file(add, _partition_keys(state))


def _data_file(add: Add, keys: dict[str, str]) -> DataFile:
    return DataFile(
        add.path,
        {name: add.partition_values.get(key) or None for name, key in keys.items()},
        add.size,
        _rows(add.stats),
        add.modification_time / 1000,
        add.stats,
        add.deletion_vector,
        add.tags,
    )


def _data_files(adds: pa.StructArray, keys: dict[str, str]) -> Iterator[DataFile]:
    # Column by column: rows as dictionaries take five times as long.
    paths, sizes, times, stats = (
        adds.field(name).to_pylist() for name in ("path", "size", "modificationTime", "stats")
    )
    partitions, tags = _maps(adds.field("partitionValues")), _maps(adds.field("tags"))
    vectors = adds.field("deletionVector").to_pylist()
    for i, path in enumerate(paths):
        values, vector = partitions[i] or {}, vectors[i]
        yield DataFile(
            path,
            # An empty text is null (section "Partition Value Serialization").
            {name: values.get(key) or None for name, key in keys.items()},
            sizes[i],
            _rows(stats[i]),
            times[i] / 1000,
            stats[i],
            None if vector is None else msgspec.convert(vector, DeletionVector),
            tags[i],
        )


def _maps(column: pa.MapArray) -> list[dict[str, Any] | None]:
    if column.null_count == len(column):
        return [None] * len(column)
    keys, items = column.keys.to_pylist(), column.items.to_pylist()
    places = pairwise(column.offsets.to_pylist())
    found = (dict(zip(keys[a:b], items[a:b], strict=True)) for a, b in places)
    valid = column.is_valid().to_pylist()
    return [values if here else None for values, here in zip(found, valid, strict=True)]


def _rows(stats: str | None) -> int | None:
    try:
        return _STATS.decode(stats).num_records if stats else None
    except msgspec.DecodeError:
        return None  # Statistics are a help to readers; nothing depends on them.


def _partition_keys(state: TableState) -> dict[str, str]:
    """Partition columns, each with its name in the log: physical, under column mapping."""
    return {name: state.columns.physical_name(name) for name in state.partition_by}
