"""Read a Delta table lazily: nothing is opened before the frame is collected.

The frame's schema is the declared one. At each collect the log is opened, the table's columns are
compared with the declared ones, and Polars reads only the partitions, files and columns that the
query needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa

# Private names of Polars 2.1, in this file only. The public ways were tried: `scan_delta(uri)` asks
# the log for its schema and stays at the first version that it opened; `LazyFrameResolver` keeps a
# plan for every filter that a frame was ever collected with (MBs for a table of many files).
from polars._plr import PyLazyFrame
from polars.io.cloud._utils import NoPickleOption
from polars.io.delta._dataset import DeltaDataset

from neuralake.delta.snapshot import open_delta
from neuralake.errors import UnknownName, UnsupportedFeature, UsageError
from neuralake.filters import Conditions, Filters, normalise
from neuralake.frame.declared import filtered, refuse_drift
from neuralake.frame.frame import NlkDataFrame, as_frame
from neuralake.schema import polars_schema
from neuralake.storage import LogStore, is_local, open_store

__all__ = ["open_place", "scan_delta", "scan_snapshot"]

# Reader features that Polars 2.1 implements; of others it would give wrong rows or none.
_READER_FEATURES = {"deletionVectors", "timestampNtz", "variantType", "variantType-preview"}


def scan_delta(
    at: str | Callable[[], LogStore],
    schema: pa.Schema,
    partition_by: Sequence[str] = (),  # noqa: ARG001 the log knows how it is partitioned
    filters: Filters | Conditions = (),
    *,
    version: int | None = None,
    empty_if_missing: bool = False,
    name: str = "",
) -> NlkDataFrame:
    """A frame over the Delta table at `at` with exactly the columns of `schema`.

    Every collect reads the newest version, unless `version` pins one. Columns that the table has
    and `schema` has not are left out.

    Args:
        at: the table's absolute address, or what gives its store; called at each collect.
        filters: conditions that hold for every row.
        empty_if_missing: a table that nobody created yet reads as empty: right for a stream before
            its first commit. Otherwise collecting it raises `UnknownName`.
        name: what errors call the table; default its address.

    Raises (at once):
        UnknownName, UsageError: a filter does not fit `schema`.

    Raises (when collected):
        UnknownName: there is no Delta table, and `empty_if_missing` is not set.
        SchemaMismatch: a declared column is missing or has another type. Fact: `column`.
        UnsupportedFeature: the table uses a Delta feature that Polars does not read.
    """
    name = name or (at if isinstance(at, str) else "table")
    source = _Newest(schema, name, at, version, empty_if_missing)
    return filtered(_frame(source), normalise(filters), schema, name=source.name)


def scan_snapshot(
    table: Any, schema: pa.Schema, *, store: LogStore | None = None, name: str = "table"
) -> NlkDataFrame:
    """A frame over an opened `deltalake.DeltaTable`, at its version, as `scan_delta` gives it.

    `store` is the table's; it may be left out for a local one.
    """
    return _frame(_Snapshot(schema, name, table, store))


def open_place(at: str | Callable[[], LogStore]) -> LogStore:
    """The store at an address, or that `at` gives."""
    return open_store(at) if isinstance(at, str) else at()


def _frame(source: _Source) -> NlkDataFrame:
    return as_frame(pl.LazyFrame._from_pyldf(PyLazyFrame.new_from_dataset_object(source)))


class _Source:
    """What Polars asks when it plans a query: the protocol of its dataset providers."""

    def __init__(self, declared: pa.Schema, name: str) -> None:
        self.columns = polars_schema(declared)
        self.name = name

    def schema(self) -> pl.Schema:
        """The declared columns: Polars asks before it plans, and no file is looked at."""
        return self.columns

    def to_dataset_scan(
        self, *, existing_resolved_version_key: str | None = None, **wanted: Any
    ) -> tuple[pl.LazyFrame, str] | None:
        """The scan of one version, and that version's key; None if Polars has it already.

        It must be a bare scan: of a dataset inside a dataset Polars 2.1 silently reads no rows.
        """
        opened = self.opened()
        if opened is None:
            return pl.scan_parquet([], schema=self.columns), "missing"
        table, options = opened
        _refuse_features(table, self.name)
        table = _at_path(table)
        _refuse_folder(table, self.name)
        dataset = _dataset(table, options)
        refuse_drift(self.columns, dataset.schema(), name=self.name)
        # With the id: version 3 of a table that was deleted and made again is another.
        key = f"{table.metadata().id}@{table.version()}"
        if key == existing_resolved_version_key:
            return None
        found = dataset.to_dataset_scan(**wanted)
        return None if found is None else (found[0], key)

    def opened(self) -> tuple[Any, Mapping[str, str]] | None:
        """The `deltalake.DeltaTable` at the version to read, and what Polars needs to reach its
        files; None if it reads as empty."""
        raise NotImplementedError


class _Snapshot(_Source):
    def __init__(self, declared: pa.Schema, name: str, table: Any, store: LogStore | None) -> None:
        super().__init__(declared, name)
        self.table, self.store = table, store

    def opened(self) -> tuple[Any, Mapping[str, str]]:
        return self.table, {} if self.store is None else self.store.storage_options


class _Newest(_Source):
    def __init__(
        self,
        declared: pa.Schema,
        name: str,
        at: str | Callable[[], LogStore],
        version: int | None,
        empty_if_missing: bool,
    ) -> None:
        super().__init__(declared, name)
        self.at = at
        self.version = version
        self.empty_if_missing = empty_if_missing

    def opened(self) -> tuple[Any, Mapping[str, str]] | None:
        store = open_place(self.at)
        try:
            # Opened anew for each plan: threads that collect at once would share a kept handle.
            return open_delta(store, self.version), store.storage_options
        except UnknownName as error:
            if error.kind != "table":
                raise
            if self.empty_if_missing and self.version is None:
                return None
            raise UnknownName(
                f"Table {self.name!r}: there is no Delta table at {store.uri}. Is its uri right?",
                kind="table",
                name=self.name,
                known=[],
            ) from error


def _dataset(table: Any, options: Mapping[str, str]) -> DeltaDataset:
    return DeltaDataset(
        table_=NoPickleOption(table),
        table_uri_=None,
        version=None,
        # None, not empty: with options Polars looks for credentials, also for local files.
        storage_options=dict(options) or None,
        credential_provider_builder=None,
        delta_table_options=None,
        use_pyarrow=False,
        pyarrow_options=None,
    )


def _at_path(table: Any) -> Any:
    """`table` with file names that can be opened, whatever characters the folders have."""
    encoded = table.table_uri
    plain = unquote(encoded)
    return table if encoded == plain or not is_local(encoded) else _AtPath(table, encoded, plain)


class _AtPath:
    """A delta-rs table that names its files by path.

    delta-rs 1.6 encodes the table's own folder as in a URL (a space is `%20`) and leaves the rest
    as it is on disk; Polars 2.1 takes the whole for a path and finds nothing there.
    """

    def __init__(self, table: Any, encoded: str, plain: str) -> None:
        self._at = (table, encoded.removeprefix("file://"), plain.removeprefix("file://"))
        self.table_uri = plain

    def file_uris(self) -> list[str]:
        table, encoded, plain = self._at
        return [plain + uri.removeprefix(encoded) for uri in table.file_uris()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._at[0], name)


def _refuse_folder(table: Any, name: str) -> None:
    """Refuse what Polars would read wrong, or not, because of the table's own folder."""
    if isinstance(table, _AtPath) and "deletionVectors" in (table.protocol().reader_features or ()):
        # Polars finds deletion vectors by the encoded name, which is not the file's: deleted rows
        # would come back.
        raise UnsupportedFeature(
            f"Table {name!r} uses deletionVectors, which frames cannot read in a folder with "
            f"spaces or other special characters: {table.table_uri}. SQL can.",
            features=["deletionVectors"],
        )
    folders = [part for part in table.table_uri.split("/") if "=" in part]
    if folders and table.metadata().partition_columns:
        # Polars takes partition values from the whole path.
        raise UsageError(
            f"Table {name!r} is partitioned and lies below {folders[0]!r}, which looks like one of "
            f"its partitions. Move the lake to a folder without '='.",
            uri=table.table_uri,
        )


def _refuse_features(table: Any, name: str) -> None:
    protocol = table.protocol()
    missing = sorted(set(protocol.reader_features or ()) - _READER_FEATURES)
    if protocol.min_reader_version == 2:  # The version that brought it; later ones list it.
        missing.append("columnMapping")
    elif protocol.min_reader_version > 3:
        missing.append(f"reader version {protocol.min_reader_version}")
    if missing:
        raise UnsupportedFeature(
            f"Table {name!r} uses {', '.join(missing)}, which frames cannot read; SQL can.",
            features=missing,
        )
