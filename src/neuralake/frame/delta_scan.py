"""A snapshot of a Delta table becomes a Polars scan of its files.

The log says everything that Polars would otherwise open files for: the files, their sizes and rows,
statistics of the columns that are filtered on, and which rows are deleted. Tables that Polars would
read wrong (mapped columns, folders that do not say what the log says) are read by our own decoder
instead: right, with columns pushed down, but file by file and in one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

# Private names of Polars 2.1; see delta.py.
from polars.io._utils import null_count_dtype
from polars.io.scan_options.cast_options import ScanCastOptions
from pyarrow import fs

from neuralake.clock import SystemClock
from neuralake.delta import DataFile, Snapshot
from neuralake.delta.bounds import ALL_NULL, Statistics, partition_value
from neuralake.delta.deletion_vector import deleted_rows
from neuralake.delta.files import DataFiles, Waiting, store_name
from neuralake.frame.predicate import arrow_predicate
from neuralake.storage import is_local, local_path

__all__ = ["Wanted", "scan_files"]

_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a plan needs of a table, as Polars says it."""

    projection: list[str] | None = None
    """Columns; None: all."""
    limit: int | None = None
    """Rows; None where there is a filter."""
    statistics_of: Sequence[str] = ()
    """Columns of which statistics can save files: those that are filtered on, for example."""
    predicate: str | None = None
    """A filter that the rows have to pass, not always all of it; see `predicate.py`."""


def scan_files(snapshot: Snapshot, columns: pl.Schema, wanted: Wanted) -> pl.LazyFrame:
    """The live rows of `snapshot`, as a bare scan (Polars splices nothing else into a plan).

    `columns` is what comes out, at least: columns of the table, of its types.
    """
    predicate = arrow_predicate(wanted.predicate)
    files = [file for file in _matching(snapshot, predicate) if file.rows != 0]
    if not files:
        return pl.scan_parquet([], schema=columns)
    if not _is_plain(snapshot, files):
        return _decoded(snapshot, files, columns, wanted)
    addresses = _addresses(snapshot, files)
    partition_by = {name: kind for name, kind in columns.items() if name in snapshot.partition_by}
    return pl.scan_parquet(
        addresses,
        schema=columns,
        glob=False,
        hive_partitioning=bool(snapshot.partition_by),
        hive_schema=_hive_schema(snapshot, partition_by),
        cast_options=ScanCastOptions._default_iceberg(),
        missing_columns="insert",
        extra_columns="ignore",
        # None, not empty: with options Polars looks for credentials, also for local files.
        storage_options=dict(snapshot.store.storage_options) or None,
        credential_provider=None,
        _table_statistics=_statistics(snapshot, files, columns, wanted.statistics_of),
        _deletion_files=_deletions(snapshot, files, addresses),
        _row_count=_row_count(files),
        _source_sizes=[file.bytes for file in files],
    )


def _matching(snapshot: Snapshot, predicate: pc.Expression | None) -> Sequence[DataFile]:
    """The live files but those whose partition rules every row out."""
    if predicate is None or not snapshot.partition_by:
        return snapshot.files
    partitions = {tuple(file.partition.values()): file.partition for file in snapshot.files}
    # Arrow compares a predicate with what is known of a fragment, and opens no file for it.
    form, system = ds.ParquetFileFormat(), fs.LocalFileSystem()
    fragments = [
        form.make_fragment(str(i), system, partition_expression=_known(snapshot, partition))
        for i, partition in enumerate(partitions.values())
    ]
    kept = ds.FileSystemDataset(fragments, snapshot.schema, form, system).get_fragments(predicate)
    keys = [*partitions]
    chosen = {keys[int(fragment.path)] for fragment in kept}
    return [file for file in snapshot.files if tuple(file.partition.values()) in chosen]


def _known(snapshot: Snapshot, partition: Mapping[str, str | None]) -> pc.Expression:
    known = ds.scalar(True)
    for name in snapshot.partition_by:
        value = partition_value(partition[name], snapshot.schema.field(name))[0]
        known &= (ds.field(name) == value) if value.is_valid else ds.field(name).is_null()
    return known


def _is_plain(snapshot: Snapshot, files: Sequence[DataFile]) -> bool:
    """Whether Polars, which takes partition values from folders' names, reads the right rows."""
    if snapshot.state.columns.mode != "none":
        return False
    if any(file.deletion_vector is not None and file.rows is None for file in files):
        return False
    if not snapshot.partition_by:
        return True
    # Polars looks at the whole path: a lake below a folder `a=b` has one folder too many.
    return "=" not in snapshot.store.uri and _folders_say(files)


def _folders_say(files: Sequence[DataFile]) -> bool:
    """Whether the folders of `files` tell their partition values, as Hive's custom is."""
    folders = {
        (file.path.rpartition("/")[0], *file.partition.values()): file.partition for file in files
    }
    for (folder, *_), partition in folders.items():
        parts = [part.partition("=") for part in unquote(folder or "").split("/")]
        said = {unquote(name): unquote(value) for name, equals, value in parts if equals}
        values = {
            name: _NULL_FOLDER if value is None else value for name, value in partition.items()
        }
        if said != values:
            return False
    return True


def _hive_schema(snapshot: Snapshot, declared: Mapping[str, pl.DataType]) -> pl.Schema | None:
    """Types of all partition columns: also of those that nobody asked for."""
    if not snapshot.partition_by:
        return None
    table = pa.schema([snapshot.schema.field(name) for name in snapshot.partition_by])
    return pl.Schema(pl.Schema(table) | dict(declared))


def _addresses(snapshot: Snapshot, files: Sequence[DataFile]) -> list[str]:
    uri = snapshot.store.uri
    root = str(local_path(uri)) if is_local(uri) else f"s3://{uri.partition('://')[2].rstrip('/')}"
    return [f"{root}/{store_name(file.path)}" for file in files]


def _row_count(files: Sequence[DataFile]) -> tuple[int, int] | None:
    """Rows in the files and deleted ones of them; None if the log does not say."""
    physical = deleted = 0
    for file in files:
        if file.rows is None:
            return None
        physical += file.rows
        deleted += 0 if file.deletion_vector is None else file.deletion_vector.cardinality
    return physical, deleted


def _deletions(
    snapshot: Snapshot, files: Sequence[DataFile], addresses: Sequence[str]
) -> tuple[Any, Callable[[pl.DataFrame], pl.DataFrame]] | None:
    """What gives Polars, for the files that it reads, which of their rows to keep."""
    by_address = {
        address: file
        for address, file in zip(addresses, files, strict=True)
        if file.deletion_vector is not None
    }
    if not by_address:
        return None

    def masks(requested: pl.DataFrame) -> pl.DataFrame:
        found = [
            None if file is None else _mask(snapshot, file)
            for file in (by_address.get(path) for path in requested["path"])
        ]
        kind = pl.List(pl.Boolean)
        return pl.DataFrame({"selection_vector": pl.Series(found, dtype=kind)})

    return ("delta-deletion-vector", masks)


def _mask(snapshot: Snapshot, file: DataFile) -> pl.Series:
    vector = file.deletion_vector
    assert vector is not None and file.rows is not None  # noqa: S101, PT018 chosen for it; for mypy
    places = deleted_rows(vector, snapshot.store, path=file.path)
    kept = pl.Series([True]).new_from_index(0, file.rows)
    return kept.scatter(pl.Series(places, dtype=pl.UInt32), False) if places else kept


def _statistics(
    snapshot: Snapshot, files: Sequence[DataFile], columns: pl.Schema, wanted: Sequence[str]
) -> pl.DataFrame | None:
    """For each file and column the bounds of its values, in the form that Polars skips files by.

    Its form: `len`, and of each column `_nc` (nulls), `_min`, `_max`; null where unknown.
    """
    names = [name for name in wanted if name in columns and name not in snapshot.partition_by]
    if not names:
        return None
    parsed = [Statistics.of(file.stats, snapshot.schema) for file in files]
    index = pl.get_index_type()
    found = {"len": pl.Series([each.rows for each in parsed], dtype=index)}
    for name in names:
        kind = columns[name]
        found[f"{name}_nc"] = _nulls([each.nulls.get(name) for each in parsed], kind)
        low, high = _bounds([each.bounds(name) for each in parsed], kind)
        found[f"{name}_min"], found[f"{name}_max"] = low, high
    return pl.DataFrame(found)


def _nulls(counts: Sequence[Any], kind: pl.DataType) -> pl.Series:
    plain = [count if isinstance(count, int) else None for count in counts]
    if isinstance(kind, pl.Struct):
        plain = [None] * len(plain)
    return pl.Series(plain, dtype=null_count_dtype(kind))


def _bounds(found: Sequence[Any], kind: pl.DataType) -> tuple[pl.Series, pl.Series]:
    known = [(None, None) if each is None or each == ALL_NULL else each for each in found]
    low, high = [each[0] for each in known], [each[1] for each in known]
    if kind.is_float():
        # To Polars NaN is the greatest number, and bounds do not count it.
        high = [None] * len(high)
    if isinstance(kind, pl.Decimal):
        low = [_rounded(value, kind, ROUND_FLOOR) for value in low]
        high = [_rounded(value, kind, ROUND_CEILING) for value in high]
    return pl.Series(low, dtype=kind), pl.Series(high, dtype=kind)


def _rounded(value: Decimal | None, kind: pl.Decimal, rounding: str) -> Decimal | None:
    if value is None:
        return None
    try:
        found = value.quantize(Decimal(1).scaleb(-kind.scale), rounding=rounding)
    except InvalidOperation:
        return None
    digits = len(found.as_tuple().digits)
    return found if digits <= kind.precision else None


def _decoded(
    snapshot: Snapshot, files: Sequence[DataFile], columns: pl.Schema, wanted: Wanted
) -> pl.LazyFrame:
    """A scan that reads through our own decoder."""
    names = [*columns] if wanted.projection is None else wanted.projection

    def source() -> tuple[Iterator[pl.DataFrame], bool]:
        # The predicate has chosen files; on rows Polars applies it, who knows what it means of
        # nulls and NaN.
        return _parts(snapshot, files, names, wanted.limit), False

    schema = pa.schema([snapshot.schema.field(name) for name in columns])
    return pl.LazyFrame._scan_python_function(schema, source, pyarrow=True, is_pure=True)


def _parts(
    snapshot: Snapshot, files: Sequence[DataFile], names: Sequence[str], rows_max: int | None
) -> Iterator[pl.DataFrame]:
    """The rows of `files`, at most `rows_max`, with the columns `names`."""
    reader = DataFiles(snapshot.store, snapshot.state, Waiting(SystemClock()))
    inside = [name for name in names if name not in snapshot.partition_by]
    left = rows_max
    for file in files:
        values = {
            name: partition_value(file.partition[name], snapshot.schema.field(name))[0]
            for name in snapshot.partition_by
        }
        # Without a column there is no telling how many rows there are.
        for part in reader.read(file, columns=inside or reader.schema.names[:1]):
            if left is not None:
                part, left = part.slice(0, left), left - part.num_rows
            yield _frame(part, names, values)
            if left is not None and left <= 0:
                return


def _frame(part: pa.Table, names: Sequence[str], values: Mapping[str, pa.Scalar]) -> pl.DataFrame:
    if not names:  # Only the rows are counted.
        return pl.DataFrame(height=part.num_rows)
    arrays = [
        pa.repeat(values[name], part.num_rows) if name in values else part[name] for name in names
    ]
    rows = pl.from_arrow(pa.table(arrays, names=list(names)))
    assert isinstance(rows, pl.DataFrame)  # noqa: S101 a table is never a Series; for mypy
    return rows
