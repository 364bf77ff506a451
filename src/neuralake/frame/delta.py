"""Read a Delta table lazily: nothing is opened before the frame is collected.

The frame's schema is the declared one. At each collect the log is read, the table's columns are
compared with the declared ones, and Polars reads only the partitions, files and columns that the
query needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pyarrow as pa

# Private names of Polars 2.1, in this file and in `delta_scan.py` only. The public ways were tried:
# `scan_delta(uri)` reads the log again and stays at the first version that it opened;
# `LazyFrameResolver` keeps a plan for every filter that a frame was ever collected with.
from polars._plr import PyLazyFrame

from neuralake.delta import Snapshot, snapshot
from neuralake.errors import UnknownName
from neuralake.filters import Conditions, Filters, normalise
from neuralake.frame.declared import filtered, refuse_drift
from neuralake.frame.delta_scan import Wanted, scan_files
from neuralake.frame.frame import NlkDataFrame, as_frame
from neuralake.schema import polars_schema
from neuralake.storage import LogStore, open_store

__all__ = ["open_place", "scan_delta", "scan_snapshot"]


def scan_delta(
    at: str | Callable[[], LogStore],
    schema: pa.Schema,
    partition_by: Sequence[str] = (),  # noqa: ARG001 the log knows how it is partitioned
    filters: Filters | Conditions = (),
    *,
    version: int | None = None,
    newest: Callable[[], Snapshot] | None = None,
    empty_if_missing: bool = False,
    name: str = "",
) -> NlkDataFrame:
    """A frame over the Delta table at `at` with exactly the columns of `schema`.

    Every collect reads the newest version, unless `version` pins one. Columns that the table has
    and `schema` has not are left out.

    Args:
        at: the table's absolute address, or what gives its store; called at each collect.
        filters: conditions that hold for every row.
        newest: gives the newest snapshot, from who keeps it (`delta.Newest`); called at each
            collect. Default: the log is opened anew.
        empty_if_missing: a table that nobody created yet reads as empty: right for a stream before
            its first commit. Otherwise collecting it raises `UnknownName`.
        name: what errors call the table; default its address.

    Raises (at once):
        UnknownName, UsageError: a filter does not fit `schema`.

    Raises (when collected):
        UnknownName: there is no Delta table, and `empty_if_missing` is not set.
        SchemaMismatch: a declared column is missing or has another type. Fact: `column`.
        UnsupportedFeature: the table uses a Delta feature that we do not read. Fact: `features`.
    """
    name = name or (at if isinstance(at, str) else "table")
    source = _Found(schema, name, at, version, newest, empty_if_missing)
    return filtered(_frame(source), normalise(filters), schema, name=source.name)


def scan_snapshot(at: Snapshot, schema: pa.Schema, *, name: str = "table") -> NlkDataFrame:
    """A frame over a snapshot, as `scan_delta` gives it; it stays at the snapshot's version."""
    return _frame(_Pinned(schema, name, at))


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
        self,
        *,
        existing_resolved_version_key: str | None = None,
        limit: int | None = None,
        projection: list[str] | None = None,
        filter_columns: list[str] | None = None,
        statistics_columns: list[str] | None = None,
        pyarrow_predicate: str | None = None,
    ) -> tuple[pl.LazyFrame, str] | None:
        """The scan of one version, and that version's key; None if Polars has it already.

        It must be a bare scan: of a dataset inside a dataset Polars 2.1 silently reads no rows.
        """
        opened = self.opened()
        if opened is None:
            return pl.scan_parquet([], schema=self.columns), "missing"
        refuse_drift(self.columns, polars_schema(opened.schema), name=self.name)
        # With the id: version 3 of a table that was deleted and made again is another.
        key = f"{opened.state.metadata.id}@{opened.version}"
        if key == existing_resolved_version_key:
            return None
        columns = dict.fromkeys([*(filter_columns or []), *(statistics_columns or [])])
        wanted = Wanted(projection, limit, [*columns], pyarrow_predicate)
        return scan_files(opened, self.columns, wanted), key

    def opened(self) -> Snapshot | None:
        """The version to read; None if it reads as empty."""
        raise NotImplementedError


class _Pinned(_Source):
    def __init__(self, declared: pa.Schema, name: str, at: Snapshot) -> None:
        super().__init__(declared, name)
        self.at = at

    def opened(self) -> Snapshot:
        return self.at


class _Found(_Source):
    def __init__(
        self,
        declared: pa.Schema,
        name: str,
        at: str | Callable[[], LogStore],
        version: int | None,
        newest: Callable[[], Snapshot] | None,
        empty_if_missing: bool,
    ) -> None:
        super().__init__(declared, name)
        self.at = at
        self.version = version
        self.newest = newest
        self.empty_if_missing = empty_if_missing

    def opened(self) -> Snapshot | None:
        store = open_place(self.at)
        try:
            if self.newest is not None and self.version is None:
                return self.newest()
            return snapshot(store, self.version, to_read=True)
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
