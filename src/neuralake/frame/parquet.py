"""Read Parquet files lazily: one file, a folder, a glob, or a tree of partition folders.

Nothing is looked at before the frame is collected, and a path that is not there is an error then,
never an empty table. Filters on partition columns decide which folders are opened. Files and
folders whose names begin with `.` or `_` are no data, as Spark and Hive have it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from polars.lazyframe.resolver import LazyFrameResolver, ResolvedLazyFrameProps

from neuralake.errors import NeedsAttention, UnknownName, UsageError
from neuralake.filters import Conditions, Filters, check, normalise
from neuralake.frame.declared import filtered
from neuralake.frame.frame import NlkDataFrame, as_frame
from neuralake.storage import is_local, local_path

__all__ = ["scan_parquet"]

_GLOB = frozenset("*?[")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def scan_parquet(
    uri: str,
    schema: pa.Schema | None = None,
    filters: Filters | Conditions = (),
    *,
    partition_schema: pa.Schema | None = None,
    hive: bool = True,
    name: str = "",
) -> NlkDataFrame:
    """A frame over the Parquet files at `uri` (absolute): a file, a folder or a glob.

    Args:
        schema: what comes out, partition columns included; None: what the files have.
        filters: conditions that hold for every row.
        partition_schema: columns that folder names give, from the outermost folder inwards.
        hive: folders are named `column=value`; else `value` alone.
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
    if not is_local(uri):
        frame = _remote(uri, schema, partitions, hive, name)
    else:
        files = _Files(local_path(uri), schema, partitions, conditions, hive, name)
        frame = as_frame(files.lazy())
    return filtered(frame, conditions, schema, name=name)


class _Files(LazyFrameResolver):
    """Finds the files when Polars plans a query, and puts their values beside their rows."""

    def __init__(
        self,
        path: Path,
        declared: pa.Schema | None,
        partitions: pa.Schema,
        conditions: Conditions,
        hive: bool,
        name: str,
    ) -> None:
        self.path = path
        self.declared = declared
        self.partitions = partitions
        self.conditions = conditions
        self.hive = hive
        self.name = name

    def schema(self) -> pl.Schema:
        if self.declared is not None:
            return pl.Schema(self.declared)
        found = self._found()
        first = {folder: files[:1] for folder, files in list(found.items())[:1]}
        return self._scan(first, []).collect_schema()

    def resolve_lazyframe(
        self, *, filters: list[Any], existing_resolved_version_key: str | None, **_: Any
    ) -> tuple[pl.LazyFrame | None, ResolvedLazyFrameProps]:
        found = self._found()
        # With a version Polars asks at every collect, so that new files are seen.
        everything = tuple(file for files in found.values() for file in files)
        version = ResolvedLazyFrameProps(version_key=str(hash(everything)))
        if existing_resolved_version_key == version.version_key:
            return None, version
        return self._scan(found, [entry.expr for entry in filters]), version

    def _found(self) -> dict[Path, list[str]]:
        """The data files by folder, sorted."""
        found: dict[Path, list[str]] = {}
        for file in sorted(self._listed()):
            found.setdefault(Path(file).parent, []).append(file)
        return found

    def _listed(self) -> Iterator[str]:
        if self.path.is_file():
            yield str(self.path)
        elif self.path.is_dir():
            for folder, folders, files in os.walk(self.path, followlinks=True):
                folders[:] = [name for name in folders if name[0] not in "._"]
                for name in files:
                    if name.endswith(".parquet") and name[0] not in "._":
                        yield os.path.join(folder, name)  # noqa: PTH118 a Path a file is slow
        elif _GLOB.intersection(str(self.path)):
            base = self._base()
            for match in base.glob(str(self.path.relative_to(base))):
                inside = match.relative_to(base).parts
                if match.is_file() and not any(part[0] in "._" for part in inside):
                    yield str(match)

    def _base(self) -> Path:
        """The folder below which partition folders are: all of the path before a glob."""
        if self.path.is_dir():
            return self.path
        plain = [
            not _GLOB.intersection(part) or part == self.path.anchor for part in self.path.parts
        ]
        return Path(*self.path.parts[: plain.index(False)]) if False in plain else self.path.parent

    def _scan(self, found: dict[Path, list[str]], pushed: list[pl.Expr]) -> pl.LazyFrame:
        if not found:
            if self.declared is None or not self.path.is_dir():
                raise UnknownName(
                    f"Table {self.name!r}: there are no Parquet files at {self.path}.",
                    kind="table",
                    name=self.name,
                    known=[],
                )
            return pl.LazyFrame(schema=pl.Schema(self.declared))
        if not self.partitions:
            return self._read([file for files in found.values() for file in files])
        values = self._values(list(found))
        kept = self._kept(values, pushed)
        if not any(kept):  # No folder can hold a row; one file tells the columns of no rows.
            first = next(iter(found.values()))[:1]
            return self._beside(first, values.row(0)).clear()
        folders = [
            (row, files)
            for row, files, keep in zip(values.iter_rows(), found.values(), kept, strict=True)
            if keep
        ]
        if self._is_plain_hive(found):
            # One scan of all files plans ten times as fast as one for each of 2,000 folders.
            return self._read([file for _, files in folders for file in files], hive=True)
        return pl.concat([self._beside(files, row) for row, files in folders])

    def _kept(self, values: pl.DataFrame, pushed: list[pl.Expr]) -> list[bool | None]:
        # A condition that needs other columns too says nothing about a folder alone.
        names = set(self.partitions.names)
        deciding = [expr for expr in pushed if set(expr.meta.root_names()) <= names]
        if not deciding:
            return [True] * values.height
        return values.select(reduce(lambda a, b: a & b, deciding)).to_series().to_list()

    def _is_plain_hive(self, found: dict[Path, list[str]]) -> bool:
        """Whether Polars, which looks at whole paths, takes exactly our columns from them."""
        names = sorted(self.partitions.names)
        return self.hive and all(
            sorted(part.split("=", 1)[0] for part in folder.parts if "=" in part) == names
            for folder in found
        )

    def _values(self, folders: list[Path]) -> pl.DataFrame:
        """Partition values, a row for each folder."""
        base = self._base()
        texts = [self._texts(folder.relative_to(base).parts, folder) for folder in folders]
        columns = [
            self._typed([row[index] for row in texts], field, folders)
            for index, field in enumerate(self.partitions)
        ]
        return pl.DataFrame(pa.table(columns, schema=self.partitions))

    def _texts(self, parts: tuple[str, ...], folder: Path) -> list[str | None]:
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
                    folder=str(folder),
                )
        if not self.hive:
            return [named[name] for name in names]
        return [None if named[name] == _NULL else unquote(named[name]) for name in names]

    def _typed(self, texts: list[str | None], field: pa.Field, folders: list[Path]) -> pa.Array:
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
                folder=str(folders[0]),
            ) from error

    def _beside(self, files: list[str], values: tuple[Any, ...]) -> pl.LazyFrame:
        """The rows of the files of one folder, with its values as columns."""
        kinds = pl.Schema(self.partitions)
        literals = [
            pl.lit(value, dtype=kind).alias(name)
            for value, (name, kind) in zip(values, kinds.items(), strict=True)
        ]
        rows = self._read(files).with_columns(literals)
        return rows if self.declared is None else rows.select(self.declared.names)

    def _read(self, files: list[str], *, hive: bool = False) -> pl.LazyFrame:
        partitions = pl.Schema(self.partitions)
        if self.declared is None:
            return pl.scan_parquet(
                files,
                glob=False,
                hive_partitioning=hive,
                hive_schema=partitions if hive else None,
            )
        declared = pl.Schema(self.declared)
        inside = {name: kind for name, kind in declared.items() if hive or name not in partitions}
        return pl.scan_parquet(
            files,
            schema=inside,
            glob=False,
            hive_partitioning=hive,
            hive_schema=partitions if hive else None,
            extra_columns="ignore",
        )


def _remote(
    uri: str, schema: pa.Schema | None, partitions: pa.Schema, hive: bool, name: str
) -> NlkDataFrame:
    if partitions and not hive:
        raise UsageError(
            f"Table {name!r}: folders without column names are read from local paths only.",
            uri=uri,
        )
    return as_frame(
        pl.scan_parquet(
            uri,
            schema=None if schema is None else pl.Schema(schema),
            hive_partitioning=bool(partitions),
            hive_schema=pl.Schema(partitions) if partitions else None,
        )
    )
