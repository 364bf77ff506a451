"""What the Delta log, or the footers of Parquet files, say about a table's data. Reads no rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuralake.delta import DataFile, Snapshot
from neuralake.manifest.columns import partition_value, value_text
from neuralake.manifest.model import Log, PartitionFacts, Statistics
from neuralake.storage import LogStore
from neuralake.tables.parquet_files import ParquetFiles

__all__ = ["delta_log", "delta_statistics", "parquet_log", "remote_parquet_log"]

PARTITIONS_SHOWN = 20
# A footer costs about 0.2 ms from a local disk: 1,000 of them are the patience of one page.
FOOTERS_MAX = 1000
REMOTE_FOOTERS_MAX = 100
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def delta_log(snapshot: Snapshot) -> Log:
    """Rows, files, bytes and the latest partitions of `snapshot`."""
    return _log(snapshot.files, snapshot.partition_by, version=snapshot.version)


def delta_statistics(snapshot: Snapshot) -> dict[str, Statistics]:
    """Smallest, largest and nulls by top-level column, over the files of `snapshot`.

    A value is given only if every file with rows states it: half of the files is not the table.
    Text is left out: the log may hold a cut prefix of it.
    """
    actions = pa.table(snapshot.delta_table.get_add_actions(flatten=True))
    found = {
        field.name: _partition_statistics(snapshot.files, field)
        if field.name in snapshot.partition_by
        else _statistics(actions, field.name)
        for field in snapshot.schema
    }
    return {name: statistics for name, statistics in found.items() if statistics is not None}


def parquet_log(path: Path, partition_by: Sequence[str], *, hive: bool) -> Log:
    """Facts of the Parquet files at `path`, a local file, folder or glob; rows from the footers.

    Rows are unknown (None) if there are more files than we want to open.
    """
    base, found = _parquet_files(path)
    reads_footers = len(found) <= FOOTERS_MAX
    files = []
    for file in found:
        stat = file.stat()
        rows = pq.read_metadata(file).num_rows if reads_footers else None
        values = _folder_values(file.relative_to(base).parts[:-1], partition_by, hive=hive)
        files.append(DataFile(str(file), values, stat.st_size, rows, stat.st_mtime))
    return _log(files, tuple(partition_by), version=None)


def remote_parquet_log(found: ParquetFiles, partition_by: Sequence[str], *, hive: bool) -> Log:
    """The same of the files in an object store, where a footer costs a request."""
    reads_footers = len(found.files) <= REMOTE_FOOTERS_MAX
    files = [
        DataFile(
            file.name,
            _folder_values(file.name.split("/")[:-1], partition_by, hive=hive),
            file.bytes,
            _footer_rows(found.store, file.name) if reads_footers else None,
            file.modified_s or 0.0,
        )
        for file in found.files
    ]
    return _log(files, tuple(partition_by), version=None)


def _footer_rows(store: LogStore, name: str) -> int | None:
    with store.open(name) as file:
        return None if file is None else pq.read_metadata(file).num_rows


def _log(files: Sequence[DataFile], partition_by: tuple[str, ...], *, version: int | None) -> Log:
    partitions: dict[tuple[str | None, ...], list[DataFile]] = {}
    if partition_by:
        for file in files:
            key = tuple(file.partition.get(name) for name in partition_by)
            partitions.setdefault(key, []).append(file)
    facts = [
        PartitionFacts(
            values=values,
            files=len(kept),
            bytes=sum(file.bytes for file in kept),
            rows=_sum(file.rows for file in kept),
            modified_s=max(file.modified_s for file in kept),
        )
        for values, kept in partitions.items()
    ]
    # Latest first; of those that changed at one moment, the largest value first (dates, sessions).
    facts.sort(key=lambda fact: [value or "" for value in fact.values], reverse=True)
    facts.sort(key=lambda fact: fact.modified_s or 0.0, reverse=True)
    return Log(
        files=len(files),
        bytes=sum(file.bytes for file in files),
        rows=_sum(file.rows for file in files),
        version=version,
        # A store that was not asked gives 0: unknown, never the year 1970.
        modified_s=max((file.modified_s for file in files), default=None) or None,
        partitions=len(facts),
        partitions_latest=tuple(facts[:PARTITIONS_SHOWN]),
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _statistics(actions: pa.Table, name: str) -> Statistics | None:
    smallest = largest = None
    low, high = _stated(actions, f"min.{name}"), _stated(actions, f"max.{name}")
    if low is not None and high is not None:
        smallest = value_text(pc.min(low).as_py())
        largest = value_text(pc.max(high).as_py())
    nulls = None
    column = f"null_count.{name}"
    if column in actions.schema.names and len(actions) and not actions[column].null_count:
        nulls = int(pc.sum(actions[column]).as_py())
    if smallest is None and nulls is None:
        return None
    return Statistics(smallest=smallest, largest=largest, nulls=nulls)


def _partition_statistics(files: Sequence[DataFile], field: pa.Field) -> Statistics | None:
    """From the values in the log, which are whole; the order of texts says little, so not that."""
    if not files:
        return None
    texts = {file.partition[field.name] for file in files} - {None}
    values = (
        []
        if pa.types.is_string(field.type)
        else [partition_value(text, field.type) for text in texts if text is not None]
    )
    return Statistics(
        smallest=value_text(min(values)) if values else None,
        largest=value_text(max(values)) if values else None,
        nulls=_sum(file.rows for file in files if file.partition[field.name] is None),
    )


def _stated(actions: pa.Table, name: str) -> pa.ChunkedArray | None:
    """The column, if every file states a value of an orderable type that is never cut."""
    if name not in actions.schema.names or not len(actions):
        return None
    column = actions[name]
    types = pa.types
    kind = column.type
    is_exact = (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_temporal(kind)
    )
    return column if is_exact and not column.null_count else None


def _parquet_files(path: Path) -> tuple[Path, list[Path]]:
    """The folder that partition values are seen from, and the files, sorted."""
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        return path, sorted(file for file in path.rglob("*.parquet") if file.is_file())
    plain = list(islice(_plain_parts(path), len(path.parts)))
    base = Path(*plain)
    pattern = str(Path(*path.parts[len(plain) :]))
    if len(plain) == len(path.parts) or not base.is_dir():
        raise FileNotFoundError("There are no files at this address.")
    return base, sorted(file for file in base.glob(pattern) if file.is_file())


def _plain_parts(path: Path) -> Iterable[str]:
    for part in path.parts:
        if any(mark in part for mark in "*?["):
            return
        yield part


def _folder_values(
    folders: Sequence[str], partition_by: Sequence[str], *, hive: bool
) -> dict[str, str | None]:
    if not hive:
        return dict(zip(partition_by, folders, strict=False))
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {
        name: None if value == _HIVE_NULL else unquote(value)
        for name, _, value in pairs
        if name in partition_by
    }
