"""The tables of one query: opened once, described by stand-ins, then read with the files it needs.

Planning happens twice. First over stand-ins without rows, which tells the filters of each scan;
then over the real tables, of which only files that can match are kept. Both see one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.dataset as ds
from datafusion import DataFrame, SessionContext, col, lit
from datafusion.catalog import Table
from datafusion.expr import Expr

from neuralake.delta import DataFile, Snapshot
from neuralake.delta.files import store_name
from neuralake.serve.prune import LoggedRanges, Ranges, Scans, may_match
from neuralake.serve.whole import dataset_of, is_rewritten, rows_of

__all__ = ["Opened", "delta_table", "joined_table", "parquet_table", "rows_table", "stand_in"]

# Each file is a branch of the plan, and all branches are opened at once.
_FILES_MAX = 100
# In an object store each is also a request or two, one after the other, before the query runs.
_FAR_FILES_MAX = 40
# A scan of the whole table by one reader is this much quicker per byte than one of single files.
_WHOLE_FACTOR = 3
# delta-rs opens all log entries behind the checkpoint at once, and then all files, each in a thread
# with a megabyte: 900 took 341 threads and two gigabytes of address space, and a process that may
# not have them is ended. A dataset opens a few files, and we have read the log already. Of small
# files it is also the quicker reader; of large ones it takes up to twice as long.
_PROVIDER_ENTRIES_MAX = 100
_PROVIDER_FILES_MAX = 200
_PROVIDER_SMALL_FILES_MAX = 50
_SMALL_BYTES = 256 * 1024
# Reader features of which delta-rs 1.6 is known to give the right rows.
_DELTA_RS_READS = {"columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint"}
_GLOB = frozenset("*?[")


class Opened(Protocol):
    """A table at one version."""

    @property
    def schema(self) -> pa.Schema: ...

    def table(self, context: SessionContext, scans: Scans | None) -> Table:
        """The rows that any of `scans` can need; None needs all, any number of times."""


def stand_in(schema: pa.Schema) -> Table:
    """A table without rows, only for planning: it takes filters, and cannot run."""
    return Table(ds.dataset(schema.empty_table()))


def rows_table(rows: pa.Table) -> Opened:
    """A table of these rows."""
    return _Rows(rows.schema, rows)


def joined_table(first: Opened, rows: pa.Table) -> Opened:
    """The rows of `first`, and these, which are in its schema."""
    return _Joined(first, rows)


def delta_table(
    snapshot: Snapshot, uri: str, *, address: Callable[[str], str] | None = None
) -> Opened:
    """The table at `uri`, at the version of `snapshot`.

    `address` gives what the engine calls the file `bucket/key` of an object store.
    """
    files = [
        _File(
            _within(uri, store_name(file.path), address),
            LoggedRanges(snapshot, file),
            file.bytes,
            file,
            is_plain=not is_rewritten(snapshot, file),
        )
        for file in snapshot.files
    ]
    ours = partial(_ours, snapshot)
    return _Files(
        snapshot.schema,
        tuple(snapshot.partition_by),
        files,
        singles_max=_FILES_MAX if address is None else _FAR_FILES_MAX,
        whole=ours
        if address or _is_foreign(snapshot) or _is_crowded(snapshot, files)
        else lambda *_: Table(snapshot.delta_table),
        repeatable=ours,
    )


def _is_crowded(snapshot: Snapshot, files: Sequence[_File]) -> bool:
    """Whether delta-rs's provider would need too many threads for the table."""
    if snapshot.entries_past_checkpoint > _PROVIDER_ENTRIES_MAX:
        return True
    are_small = sum(file.bytes for file in files) < len(files) * _SMALL_BYTES
    return len(files) > (_PROVIDER_SMALL_FILES_MAX if are_small else _PROVIDER_FILES_MAX)


def _is_foreign(snapshot: Snapshot) -> bool:
    """Whether delta-rs may refuse to open the table, or show columns that we left out."""
    return not {*(snapshot.state.protocol.reader_features or ())} <= _DELTA_RS_READS


def _ours(snapshot: Snapshot, context: SessionContext, kept: Sequence[_File]) -> Table:
    """The rows of `kept` without delta-rs's provider; see `whole.py`."""
    plain, others = (
        [
            (file.logged, {name: _value(file.ranges[name]) for name in snapshot.partition_by})
            for file in kept
            if file.logged is not None and file.is_plain is is_plain
        ]
        for is_plain in (True, False)
    )
    if not others:
        return Table(dataset_of(snapshot, plain))
    rows = _memory(context, rows_of(snapshot, others))
    if not plain:
        return rows
    return Table(
        _union([context.read_table(Table(dataset_of(snapshot, plain))), context.read_table(rows)])
    )


def parquet_table(
    dataset: ds.FileSystemDataset,
    partition_by: Sequence[str],
    address: Callable[[str], str] | None = None,
) -> Opened:
    """The files of `dataset`, whose `partition_by` columns are in the names of their folders."""
    files = []
    for fragment in dataset.get_fragments():
        keys = ds.get_partition_keys(fragment.partition_expression)
        spans = {name: keys.get(name) for name in partition_by}
        ranges = {name: None if value is None else (value, value) for name, value in spans.items()}
        # All of them, whatever their size: the dataset as a whole is the slower reader.
        path = fragment.path if address is None else address(fragment.path)
        files.append(_File(path, ranges, 0))
    return _Files(
        dataset.schema,
        tuple(partition_by),
        files,
        singles_max=_FILES_MAX if address is None else _FAR_FILES_MAX,
        whole=lambda *_: Table(dataset),
        repeatable=lambda *_: Table(dataset),
    )


@dataclass(frozen=True)
class _Rows:
    schema: pa.Schema
    rows: pa.Table

    def table(self, context: SessionContext, scans: Scans | None) -> Table:  # noqa: ARG002 of a protocol
        return _memory(context, self.rows)


@dataclass(frozen=True)
class _Joined:
    first: Opened
    rows: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.first.schema

    def table(self, context: SessionContext, scans: Scans | None) -> Table:
        # A union goes by place, and delta-rs has partition columns where it likes.
        columns = [col(f'"{name}"') for name in self.schema.names]
        # Inside a union delta-rs's provider is one for all scans, and gives its rows only once.
        once = scans if scans is not None and len(scans) == 1 else None
        parts = [self.first.table(context, once), _memory(context, self.rows)]
        return Table(_union([context.read_table(part).select(*columns) for part in parts]))


@dataclass(frozen=True)
class _File:
    address: str
    ranges: Ranges
    bytes: int
    logged: DataFile | None = None
    is_plain: bool = True
    """Whether its rows are the table's as they stand in the file."""


_Reader = Callable[[SessionContext, Sequence[_File]], Table]


@dataclass(frozen=True)
class _Files:
    schema: pa.Schema
    partition_by: tuple[str, ...]
    files: list[_File]
    singles_max: int
    """Files that are worth a branch of the plan each."""
    whole: _Reader
    repeatable: _Reader
    """As `whole`, for plans that scan more than once. delta-rs's provider gives its rows only to
    the first scan (1.6.6): a recursive query over it ends early, without an error."""

    def table(self, context: SessionContext, scans: Scans | None) -> Table:
        kept = [
            file
            for file in self.files
            if scans is None or any(may_match(filters, file.ranges) for filters in scans)
        ]
        if not kept:
            return _memory(context, self.schema.empty_table())
        if not self._can_single(kept):
            reader = self.repeatable if scans is None else self.whole
            return reader(context, kept)
        if scans is not None and not self._is_worth(kept):
            return self.whole(context, kept)
        return Table(_union([self._one(context, file) for file in kept]))

    def _can_single(self, kept: list[_File]) -> bool:
        return len(kept) <= _FILES_MAX and all(
            file.is_plain and not _GLOB & set(file.address) for file in kept
        )

    def _is_worth(self, kept: list[_File]) -> bool:
        if len(kept) > self.singles_max:
            return False
        total = sum(file.bytes for file in self.files)
        return sum(file.bytes for file in kept) * _WHOLE_FACTOR <= total

    def _one(self, context: SessionContext, file: _File) -> DataFrame:
        inside = pa.schema([field for field in self.schema if field.name not in self.partition_by])
        columns: list[Expr] = []
        for field in self.schema:
            if field.name in self.partition_by:
                value = pa.scalar(_value(file.ranges[field.name]), field.type)
                columns.append(lit(value).alias(field.name))
            else:
                columns.append(col(f'"{field.name}"'))
        frame = context.read_parquet(file.address, schema=inside, file_extension="")
        return frame.select(*columns)


def _within(uri: str, name: str, address: Callable[[str], str] | None) -> str:
    """What the engine calls the file `name` of the table at `uri`."""
    if address is None:
        return str(Path(uri, name))
    return address(f"{uri.partition('://')[2].rstrip('/')}/{name}")


def _value(span: tuple[Any, Any] | None) -> Any:
    """The one value of a partition column."""
    return None if span is None else span[0]


def _memory(context: SessionContext, rows: pa.Table) -> Table:
    # A dataset would do, but one without rows has no partition, and the engine cannot sort it.
    batches = rows.to_batches() or [pa.RecordBatch.from_pylist([], schema=rows.schema)]
    return Table(context.read_batches(batches))


def _union(frames: list[DataFrame]) -> DataFrame:
    """A balanced tree: a chain as deep as it is long overflows the planner's stack."""
    while len(frames) > 1:
        pairs = [frames[at : at + 2] for at in range(0, len(frames), 2)]
        frames = [pair[0] if len(pair) == 1 else pair[0].union(pair[1]) for pair in pairs]
    return frames[0]
