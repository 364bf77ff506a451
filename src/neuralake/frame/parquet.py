"""Read Parquet files lazily: one file, a folder, a glob, or a tree of partition folders.

Nothing is looked at before the frame is collected, and a path that is not there is an error then,
never an empty table. Filters on partition columns decide which folders are opened. Files and
folders whose names begin with `.` or `_` are no data, as Spark and Hive have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from polars.lazyframe.resolver import LazyFrameResolver, ResolvedLazyFrameProps

from neuralake.errors import NeedsAttention, UnknownName
from neuralake.filters import Conditions, Filters, check, normalise
from neuralake.frame.declared import filtered
from neuralake.frame.frame import NlkDataFrame, as_frame
from neuralake.frame.parquet_place import Found, LocalPlace, Place, StorePlace
from neuralake.storage import LogStore, is_local, local_path, open_store

__all__ = ["scan_parquet"]

_NULL = "__HIVE_DEFAULT_PARTITION__"


def scan_parquet(
    uri: str,
    schema: pa.Schema | None = None,
    filters: Filters | Conditions = (),
    *,
    partition_schema: pa.Schema | None = None,
    hive: bool = True,
    store_at: Callable[[str], LogStore] = open_store,
    name: str = "",
) -> NlkDataFrame:
    """A frame over the Parquet files at `uri` (absolute): a file, a folder or a glob.

    Args:
        schema: what comes out, partition columns included; None: what the files have.
        filters: conditions that hold for every row.
        partition_schema: columns that folder names give, from the outermost folder inwards.
        hive: folders are named `column=value`; else `value` alone.
        store_at: what gives the store of an address that is not local; called at each collect.
        name: what errors call the table; default `uri`.

    Raises (at once):
        UnknownName, UsageError: a filter does not fit `schema`.

    Raises (when collected):
        UnknownName: nothing is there; or only an empty folder, and no `schema` was declared.
        NeedsAttention: a folder's name is not a value of its partition column.
        polars.exceptions.SchemaError: a file has another type than declared; it names the column.
    """
    name = name or uri
    conditions = normalise(filters)
    partitions = partition_schema if partition_schema is not None else pa.schema([])
    if schema is not None:
        check(conditions, schema, name=name)
    place = LocalPlace(local_path(uri)) if is_local(uri) else StorePlace(uri, store_at)
    frame = as_frame(_Files(place, schema, partitions, hive, name).lazy())
    return filtered(frame, conditions, schema, name=name)


class _Files(LazyFrameResolver):
    """Finds the files when Polars plans a query, and puts their values beside their rows."""

    def __init__(
        self,
        place: Place,
        declared: pa.Schema | None,
        partitions: pa.Schema,
        hive: bool,
        name: str,
    ) -> None:
        self.place = place
        self.declared = declared
        self.partitions = partitions
        self.hive = hive
        self.name = name

    def schema(self) -> pl.Schema:
        if self.declared is not None:
            return pl.Schema(self.declared)
        return self._scan(self.place.found().first(), []).collect_schema()

    def resolve_lazyframe(
        self, *, filters: list[Any], existing_resolved_version_key: str | None, **_: Any
    ) -> tuple[pl.LazyFrame | None, ResolvedLazyFrameProps]:
        found = self.place.found()
        # With a version Polars asks at every collect, so that new files are seen.
        version = ResolvedLazyFrameProps(version_key=str(hash(tuple(found.files()))))
        if existing_resolved_version_key == version.version_key:
            return None, version
        return self._scan(found, [entry.expr for entry in filters]), version

    def _scan(self, found: Found, pushed: list[pl.Expr]) -> pl.LazyFrame:
        if not found.folders:
            if self.declared is None or not found.is_folder:
                raise UnknownName(
                    f"Table {self.name!r}: there are no Parquet files at {self.place}.",
                    kind="table",
                    name=self.name,
                    known=[],
                )
            return pl.LazyFrame(schema=pl.Schema(self.declared))
        read = partial(self._read, options=found.options)
        if not self.partitions:
            return read(found.files())
        values = self._values(found)
        kept = self._kept(values, pushed)
        if not any(kept):  # No folder can hold a row; one file tells the columns of no rows.
            return self._beside(read(found.first().files()), values.row(0)).clear()
        folders = [
            (row, files)
            for row, files, keep in zip(
                values.iter_rows(), found.folders.values(), kept, strict=True
            )
            if keep
        ]
        if self._is_plain_hive(found):
            # One scan of all files plans ten times as fast as one for each of 2,000 folders.
            return read([file for _, files in folders for file in files], hive=True)
        return pl.concat([self._beside(read(files), row) for row, files in folders])

    def _kept(self, values: pl.DataFrame, pushed: list[pl.Expr]) -> list[bool | None]:
        # A condition that needs other columns too says nothing about a folder alone.
        names = set(self.partitions.names)
        deciding = [expr for expr in pushed if set(expr.meta.root_names()) <= names]
        if not deciding:
            return [True] * values.height
        return values.select(reduce(lambda a, b: a & b, deciding)).to_series().to_list()

    def _is_plain_hive(self, found: Found) -> bool:
        """Whether Polars, which looks at whole paths, takes exactly our columns from them."""
        names = sorted(self.partitions.names)
        return self.hive and all(
            sorted(part.split("=", 1)[0] for part in folder.split("/") if "=" in part) == names
            for folder in found.folders
        )

    def _values(self, found: Found) -> pl.DataFrame:
        """Partition values, a row for each folder."""
        folders = list(found.folders)
        texts = [self._texts(found.parts(folder), folder) for folder in folders]
        columns = [
            self._typed([row[index] for row in texts], field, folders)
            for index, field in enumerate(self.partitions)
        ]
        return pl.DataFrame(pa.table(columns, schema=self.partitions))

    def _texts(self, parts: list[str], folder: str) -> list[str | None]:
        names = self.partitions.names
        if self.hive:
            named = dict(part.split("=", 1) for part in parts if "=" in part)
        else:
            named = dict(zip(names, parts, strict=False))
        for name in names:
            if name not in named:
                raise NeedsAttention(
                    f"Table {self.name!r}: {folder} has no folder for partition column {name!r}.",
                    column=name,
                    folder=folder,
                )
        if not self.hive:
            return [named[name] for name in names]
        return [None if named[name] == _NULL else unquote(named[name]) for name in names]

    def _typed(self, texts: list[str | None], field: pa.Field, folders: list[str]) -> pa.Array:
        try:
            return pa.array(texts, pa.string()).cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if len(texts) > 1:  # One by one, to find the one that is wrong.
                for text, folder in zip(texts, folders, strict=True):
                    self._typed([text], field, [folder])
            raise NeedsAttention(
                f"Table {self.name!r}: {texts[0]!r} in {folders[0]} is no {field.type}, as "
                f"partition column {field.name!r} is declared.",
                column=field.name,
                folder=folders[0],
            ) from error

    def _beside(self, rows: pl.LazyFrame, values: tuple[Any, ...]) -> pl.LazyFrame:
        """The rows of the files of one folder, with its values as columns."""
        kinds = pl.Schema(self.partitions)
        literals = [
            pl.lit(value, dtype=kind).alias(name)
            for value, (name, kind) in zip(values, kinds.items(), strict=True)
        ]
        rows = rows.with_columns(literals)
        return rows if self.declared is None else rows.select(self.declared.names)

    def _read(
        self, files: list[str], *, options: Mapping[str, str], hive: bool = False
    ) -> pl.LazyFrame:
        partitions = pl.Schema(self.partitions)
        inside = None
        if self.declared is not None:
            declared = pl.Schema(self.declared)
            inside = {
                name: kind for name, kind in declared.items() if hive or name not in partitions
            }
        return pl.scan_parquet(
            files,
            schema=inside,
            glob=False,
            hive_partitioning=hive,
            hive_schema=partitions if hive else None,
            extra_columns="raise" if inside is None else "ignore",
            # None, not empty: with options Polars looks for credentials, also for local files.
            storage_options=dict(options) or None,
        )
