"""Read a Delta table lazily: nothing is opened before the frame is collected.

The frame's schema is the declared one. At each collect the log is opened, the table's columns are
compared with the declared ones, and Polars reads only the partitions, files and columns that the
query needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from polars._plr import PyLazyFrame
from polars.io.cloud._utils import NoPickleOption
from polars.io.delta._dataset import DeltaDataset

from neuralake import filters as conditions
from neuralake.errors import SchemaMismatch, UnknownName
from neuralake.filters import Filters
from neuralake.frame.frame import NlkDataFrame, as_frame
from neuralake.schema import polars_schema
from neuralake.storage import is_local, local_path

__all__ = ["scan_delta"]


def scan_delta(
    uri: str,
    schema: pa.Schema,
    partition_by: Sequence[str] = (),  # noqa: ARG001 the log says how it is partitioned
    filters: Filters = (),
    *,
    version: int | None = None,
    empty_if_missing: bool = False,
    name: str = "",
) -> NlkDataFrame:
    """A frame over the Delta table at `uri` (absolute) with exactly the columns of `schema`.

    Every collect reads the newest version, unless `version` pins one. Columns that the table has
    and `schema` has not are left out.

    Args:
        empty_if_missing: a table that nobody created yet reads as empty: right for a stream before
            its first commit. Otherwise collecting it raises `UnknownName`.
        name: what errors call the table; default `uri`.

    Raises (at once):
        UnknownName, UsageError: a filter does not fit `schema`.

    Raises (when collected):
        UnknownName: there is no Delta table, and `empty_if_missing` is not set.
        SchemaMismatch: a declared column is missing or has another type. Fact: `column`.
    """
    name = name or uri
    dataset = _Dataset(uri, schema, version, empty_if_missing, name)
    frame = NlkDataFrame._from_pyldf(PyLazyFrame.new_from_dataset_object(dataset))
    kept = conditions.normalise(filters)
    return as_frame(frame.filter(conditions.expression(kept, schema, name=name)) if kept else frame)


class _Dataset:
    """What Polars asks when it plans a query; the protocol of `polars.io.delta`."""

    def __init__(
        self, uri: str, schema: pa.Schema, version: int | None, empty_if_missing: bool, name: str
    ) -> None:
        self.uri = uri
        self.declared = schema
        self.version = version
        self.empty_if_missing = empty_if_missing
        self.name = name

    def schema(self) -> pl.Schema:
        return polars_schema(self.declared)

    def to_dataset_scan(self, **wanted: Any) -> tuple[pl.LazyFrame, str] | None:
        # It must be a bare scan: of a nested dataset Polars 2.1 silently reads zero rows.
        if is_local(self.uri) and not local_path(self.uri).joinpath("_delta_log").is_dir():
            if self.empty_if_missing:
                return pl.scan_parquet([], schema=self.schema()), "missing"
            raise UnknownName(
                f"There is no Delta table at {self.uri!r}.", kind="table", name=self.name, known=[]
            )
        dataset = DeltaDataset(
            table_=NoPickleOption(None),
            table_uri_=self.uri,
            version=self.version,
            storage_options=None,
            credential_provider_builder=None,
            delta_table_options=None,
            use_pyarrow=False,
            pyarrow_options=None,
        )
        _refuse_drift(self.schema(), dataset.schema(), self.name)
        return dataset.to_dataset_scan(**wanted)


def _refuse_drift(declared: pl.Schema, found: pl.Schema, name: str) -> None:
    for column, kind in declared.items():
        if column not in found:
            raise SchemaMismatch(
                f"Table {name!r} has no column {column!r}, which its definition declares. "
                f"It has: {', '.join(found)}.",
                column=column,
                known=list(found),
            )
        if found[column] != kind:
            raise SchemaMismatch(
                f"Column {column!r} of table {name!r} is {found[column]}, but its definition "
                f"declares {kind}.",
                column=column,
                declared=str(kind),
                found=str(found[column]),
            )
