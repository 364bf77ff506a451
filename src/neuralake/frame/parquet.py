"""Read Parquet files lazily: one file, a folder, a glob, or a tree of partition folders.

Nothing is looked at before the frame is collected, and a path that is not there is an error then,
never an empty table. Filters on partition columns decide which folders are opened. Files and
folders whose names begin with `.` or `_` are no data, as Spark and Hive have it.
"""

from __future__ import annotations

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
        return self._scan(list(self._found())[:1], []).collect_schema()

    def resolve_lazyframe(
        self, *, filters: list[Any], existing_resolved_version_key: str | None, **_: Any
    ) -> tuple[pl.LazyFrame | None, ResolvedLazyFrameProps]:
        found = list(self._found())
        # With a version Polars asks at every collect, so that new files are seen.
        version = ResolvedLazyFrameProps(version_key=str(hash(tuple(found))))
        if existing_resolved_version_key == version.version_key:
            return None, version
        return self._scan(found, [entry.expr for entry in filters]), version

    def _scan(self, found: list[Path], pushed: list[pl.Expr]) -> pl.LazyFrame:
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
            return self._read(found)
        folders = self._kept_folders(found, pushed)
        if not folders:  # No folder can hold a row; one file tells the columns of no rows.
            return self._in_folder(found[:1], self._values(found[0])).clear()
        return pl.concat([self._in_folder(files, values) for values, files in folders.items()])

    def _found(self) -> Iterator[Path]:
        """The data files, sorted."""
        if self.path.is_file():
            return iter([self.path])
        if self.path.is_dir():
            matches: Iterator[Path] = self.path.rglob("*.parquet")
        elif _GLOB.intersection(str(self.path)):
            base = self._base()
            matches = base.glob(str(self.path.relative_to(base)))
        else:
            matches = iter(())
        top = len(self._base().parts)
        return iter(
            sorted(
                match
                for match in matches
                if match.is_file() and not any(part[0] in "._" for part in match.parts[top:])
            )
        )

    def _base(self) -> Path:
        """The folder below which partition folders are: all of the path before a glob."""
        if self.path.is_dir():
            return self.path
        plain = [
            not _GLOB.intersection(part) or part == self.path.anchor for part in self.path.parts
        ]
        return Path(*self.path.parts[: plain.index(False)]) if False in plain else self.path.parent

    def _kept_folders(
        self, found: list[Path], pushed: list[pl.Expr]
    ) -> dict[tuple[Any, ...], list[Path]]:
        folders: dict[tuple[Any, ...], list[Path]] = {}
        for file in found:
            folders.setdefault(self._values(file), []).append(file)
        names = self.partitions.names
        table = pl.DataFrame(list(folders), schema=pl.Schema(self.partitions), orient="row")
        # A condition that needs other columns too says nothing about a folder alone.
        deciding = [expr for expr in pushed if set(expr.meta.root_names()) <= set(names)]
        if deciding:
            keep = table.select(reduce(lambda a, b: a & b, deciding)).to_series()
            folders = {
                values: files
                for (values, files), kept in zip(folders.items(), keep, strict=True)
                if kept
            }
        return folders

    def _values(self, file: Path) -> tuple[Any, ...]:
        parts = file.relative_to(self._base()).parts[:-1]
        if self.hive:
            named = dict(part.split("=", 1) for part in parts if "=" in part)
            texts = [named.get(name) for name in self.partitions.names]
        else:
            texts = [*parts[: len(self.partitions)]]
            texts += [None] * (len(self.partitions) - len(texts))
        values = []
        for field, text in zip(self.partitions, texts, strict=True):
            if text is None:
                raise NeedsAttention(
                    f"Table {self.name!r}: {file} has no folder for partition column "
                    f"{field.name!r}.",
                    column=field.name,
                    file=str(file),
                )
            values.append(self._value(unquote(text) if self.hive else text, field, file))
        return tuple(values)

    def _value(self, text: str, field: pa.Field, file: Path) -> Any:
        if self.hive and text == _NULL:
            return None
        try:
            return pa.scalar(text).cast(field.type).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise NeedsAttention(
                f"Table {self.name!r}: the folder {text!r} of {file} is no {field.type}, as "
                f"partition column {field.name!r} is declared.",
                column=field.name,
                file=str(file),
            ) from error

    def _in_folder(self, files: list[Path], values: tuple[Any, ...]) -> pl.LazyFrame:
        literals = [
            pl.lit(value, dtype=kind).alias(name)
            for value, (name, kind) in zip(values, pl.Schema(self.partitions).items(), strict=True)
        ]
        rows = self._read(files).with_columns(literals)
        return rows if self.declared is None else rows.select(self.declared.names)

    def _read(self, files: list[Path]) -> pl.LazyFrame:
        if self.declared is None:
            return pl.scan_parquet(files, glob=False, hive_partitioning=False)
        inside = {
            name: kind
            for name, kind in pl.Schema(self.declared).items()
            if name not in self.partitions.names
        }
        return pl.scan_parquet(
            files, schema=inside, glob=False, hive_partitioning=False, extra_columns="ignore"
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
