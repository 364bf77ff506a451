"""Read many files of a Delta table at once, where delta-rs's table provider cannot.

The provider finds no object store in this process, gives its rows to the first scan of a plan only,
and of what `to_pyarrow_dataset` makes a filter drops files that have no bounds (all seen in 1.6.6).
Here files are an Arrow dataset that knows their partition values and nothing else. Files whose rows
are not the table's as they stand (deleted rows, columns under other names) are read into memory by
our own code: right, and bounded by what a query may hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from neuralake.clock import SystemClock
from neuralake.delta import DataFile, Snapshot
from neuralake.delta.files import DataFiles, Waiting, store_name
from neuralake.serve.remote import filesystem
from neuralake.storage import is_local

__all__ = ["dataset_of", "is_rewritten", "rows_of"]

Values = Mapping[str, Any]
"""Partition values of a file by column."""


def is_rewritten(snapshot: Snapshot, file: DataFile | None) -> bool:
    """Whether the rows of `file` differ from what its Parquet says."""
    has_names = snapshot.state.properties.column_mapping != "none"
    return has_names or file is None or file.deletion_vector is not None


def dataset_of(snapshot: Snapshot, files: Sequence[tuple[DataFile, Values]]) -> ds.Dataset:
    """The rows of `files`, none of them rewritten, any number of times."""
    store, form = snapshot.store, ds.ParquetFileFormat()
    system = fs.LocalFileSystem() if is_local(store.uri) else filesystem(store)
    folder = store.uri.partition("://")[2] if "://" in store.uri else store.uri
    fragments = [
        form.make_fragment(
            f"{folder}/{store_name(file.path)}",
            filesystem=system,
            partition_expression=_expression(snapshot.schema, values),
        )
        for file, values in files
    ]
    return ds.FileSystemDataset(fragments, snapshot.schema, form, system)


def rows_of(snapshot: Snapshot, files: Sequence[tuple[DataFile, Values]]) -> pa.Table:
    """The rows of `files` in memory."""
    reader = DataFiles(snapshot.store, snapshot.state, Waiting(SystemClock()))
    parts = [snapshot.schema.empty_table()]
    for file, values in files:
        for part in reader.read(file):
            columns = [
                pa.repeat(pa.scalar(values[field.name], field.type), part.num_rows)
                if field.name in values
                else part[field.name]
                for field in snapshot.schema
            ]
            parts.append(pa.Table.from_arrays(columns, schema=snapshot.schema))
    return pa.concat_tables(parts)


def _expression(schema: pa.Schema, values: Values) -> ds.Expression:
    parts = [
        ds.field(name).is_null()
        if value is None
        else ds.field(name) == pa.scalar(value, schema.field(name).type)
        for name, value in values.items()
    ]
    return reduce(lambda a, b: a & b, parts, ds.scalar(True))
