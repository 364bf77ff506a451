"""From a definition to a lazy frame, by kind of table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from neuralake.catalog.columns import tail_columns, with_evolved
from neuralake.errors import UnknownName, UsageError, suggestion
from neuralake.filters import Conditions, normalise
from neuralake.frame import NlkDataFrame, scan_delta, scan_parquet
from neuralake.frame.declared import conforming, filtered
from neuralake.frame.frame import as_frame
from neuralake.live import Follower, Start, existing, live_frame
from neuralake.records.envelopes import reader_of
from neuralake.schema import polars_schema
from neuralake.storage import LogStore
from neuralake.tables import (
    Definition,
    DeltaTable,
    FunctionTable,
    ParquetTable,
    PartitioningScheme,
)

if TYPE_CHECKING:
    from neuralake.catalog.catalog import Catalog

__all__ = ["follower_of", "read_function", "read_table"]


def read_table(
    catalog: Catalog,
    definition: Definition,
    filters: Sequence[Any],
    live: bool,
    columns: Sequence[str] | None,
    version: int | None,
    arguments: Mapping[str, Any],
    title: str,
    *,
    evolved: bool = False,
) -> NlkDataFrame:
    """A frame over a table that has files; see `Database.table`."""
    declared = definition
    if evolved:
        definition = with_evolved(catalog, definition, title)
    unknown = [name for name in arguments if name != "filters"]
    if unknown:
        known = ["columns", "filters", "live", "version"]
        # The name of a column was meant as one, however near it is to an argument.
        near = "" if unknown[0] in definition.columns else suggestion(unknown[0], known)
        raise UsageError(
            f"{title!r} is a {definition.kind} table and takes no argument {unknown[0]!r}.{near} "
            f"To filter, write Filter({unknown[0]!r}, '=', {arguments[unknown[0]]!r}).",
            name=unknown[0],
            known=known,
        )
    conditions = normalise(*filters, arguments.get("filters"))
    if columns is not None:
        _check_columns(columns, definition, title)
    frame = _scan(catalog, definition, declared, conditions, live, version, title)
    return frame if columns is None else as_frame(frame.select(list(columns)))


def read_function(
    definition: FunctionTable[Any, Any],
    filters: Sequence[Any],
    columns: Sequence[str] | None,
    arguments: Mapping[str, Any],
    title: str,
) -> NlkDataFrame:
    """What the function gives, as a frame, with its declared schema (if any) enforced."""
    # A function may have parameters of these names; then they are its own.
    own = {} if columns is None else {"columns": columns}
    taken = {name: value for name, value in own.items() if name in definition.parameters}
    given = {**arguments, **taken}
    if "filters" in given and "filters" not in definition.parameters:
        filters = [*filters, given.pop("filters")]
    definition.check_arguments(given)
    frame = as_frame(definition.function(**given), name=title)
    if definition.schema is not None:
        frame = conforming(frame, definition.schema, name=title)
    frame = filtered(frame, normalise(*filters), definition.schema, name=title)
    return frame if columns is None or taken else as_frame(frame.select(list(columns)))


def follower_of(
    catalog: Catalog,
    definition: Definition,
    filters: Sequence[Any],
    columns: Sequence[str] | None,
    after: Start,
    title: str,
) -> Follower:
    """What gives the new rows of a stream table; see `Database.follow`."""
    if not isinstance(definition, DeltaTable) or not definition.is_stream:
        raise UsageError(
            f"{title!r} has no stream, so there is nothing to follow. Define it with "
            f"stream=Stream().",
            name=title,
        )
    conditions, schema = normalise(*filters), definition.schema
    if columns is not None:
        _check_columns(columns, definition, title)

    def shape(frame: pl.LazyFrame) -> pl.LazyFrame:
        found = filtered(as_frame(frame), conditions, schema, name=title)
        return found if columns is None else found.select(list(columns))

    uri = catalog.uri_of(definition)
    shape(pl.LazyFrame(schema=polars_schema(schema)))  # Filters that do not fit are told at once.
    return Follower(
        catalog.queue_of(definition),
        title,
        schema,
        after=after,
        reader=reader_of(definition, catalog.settings, name=title),
        into=lambda: tail_columns(catalog, definition),
        take=lambda: existing(lambda: catalog.newest_at(uri)),
        shape=shape,
    )


def _scan(
    catalog: Catalog,
    definition: Definition,
    declared: Definition,
    conditions: Conditions,
    live: bool,
    version: int | None,
    title: str,
) -> NlkDataFrame:
    if live and not definition.is_stream:
        raise UsageError(
            f"{title!r} has no stream, so there is nothing live in it. Leave live out, or define "
            f"it with stream=Stream().",
            name=title,
        )
    if version is not None and (live or not isinstance(definition, DeltaTable)):
        reason = "live is the newest" if live else f"it is a {definition.kind} table"
        raise UsageError(f"{title!r} cannot be read at a version: {reason}.", name=title)
    uri = catalog.uri_of(definition)

    def store() -> LogStore:
        # Asked at collect: looking up opens no store and no queue.
        return catalog.store_at(uri)

    if isinstance(definition, DeltaTable):
        if live:
            return live_frame(
                store,
                definition.schema,
                lambda: catalog.queue_of(definition),
                title,
                conditions,
                reader=reader_of(declared, catalog.settings, name=title),
            )
        return scan_delta(
            store,
            definition.schema,
            definition.partition_by,
            conditions,
            version=version,
            newest=lambda: catalog.newest_at(uri),
            empty_if_missing=definition.is_stream,
            name=title,
        )
    if isinstance(definition, ParquetTable):
        return scan_parquet(
            uri,
            definition.schema,
            conditions,
            partition_schema=definition.partition_schema,
            hive=definition.partitioning_scheme is PartitioningScheme.HIVE,
            store_at=catalog.store_at,
            name=title,
        )
    raise UsageError(f"{title!r} is a {definition.kind} table, which frames do not read yet.")


def _check_columns(columns: Sequence[str], definition: Definition, title: str) -> None:
    if isinstance(columns, str):
        raise UsageError(f"columns is a list of names: columns=[{columns!r}].")
    for name in columns:
        if definition.schema is not None and name not in definition.columns:
            raise UnknownName(
                f"{title!r} has no column {name!r}.{suggestion(name, definition.columns)} "
                f"Its columns: {', '.join(definition.columns)}.",
                kind="column",
                name=name,
                known=definition.columns,
            )
