"""A catalog's tables as data that a query process can open, and rows of its function tables."""

from __future__ import annotations

from typing import cast

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.errors import QueryError, TooLarge
from neuralake.serve.messages import Source
from neuralake.tables import Definition, FunctionTable, ParquetTable, PartitioningScheme

__all__ = ["FUNCTION_ROWS_MAX", "describe", "function_rows"]

FUNCTION_ROWS_MAX = 1_000_000
"""Rows of a function table that SQL may read; more belong into a table of their own."""


def describe(catalog: Catalog) -> dict[str, dict[str, Source]]:
    """Every table by database and name; no I/O."""
    databases: dict[str, dict[str, Source]] = {name: {} for name in catalog.dbs()}
    for database, definition in catalog.definitions():
        databases[database][definition.name] = _source(catalog, definition)
    return databases


def function_rows(catalog: Catalog, database: str, name: str) -> bytes:
    """The rows of a function table as an Arrow IPC stream; its code runs here and now.

    Raises:
        QueryError: the function needs arguments, which SQL has no place for.
        TooLarge: it has more than `FUNCTION_ROWS_MAX` rows.
    """
    definition = cast("FunctionTable[..., object]", catalog.definition(database, name))
    if definition.required:
        needed = ", ".join(definition.required)
        raise QueryError(
            f"Table {database}.{name} is a function that needs {needed}, and SQL passes no "
            f"arguments. Read it in Python: catalog.db({database!r}).table({name!r}, …).",
            reason="arguments",
            table=f"{database}.{name}",
            required=definition.required,
        )
    from neuralake.frame.frame import as_frame  # With Polars; a server starts without it.

    frame = as_frame(definition(), name=name).head(FUNCTION_ROWS_MAX + 1).collect()
    if frame.height > FUNCTION_ROWS_MAX:
        raise TooLarge(
            f"Table {database}.{name} is a function that gave more than {FUNCTION_ROWS_MAX} rows; "
            f"SQL reads at most so many of a function. Write them to a Delta table.",
            limit=FUNCTION_ROWS_MAX,
        )
    rows = frame.to_arrow()
    if definition.schema is not None:
        rows = rows.select(definition.schema.names).cast(definition.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())


def _source(catalog: Catalog, definition: Definition) -> Source:
    schema = None if definition.schema is None else bytes(definition.schema.serialize())
    if isinstance(definition, ParquetTable):
        return Source(
            kind="parquet",
            uri=catalog.uri_of(definition),
            schema=schema,
            partition_schema=bytes(definition.partition_schema.serialize()),
            is_hive=definition.partitioning_scheme is PartitioningScheme.HIVE,
        )
    if definition.kind == "delta":
        return Source(
            kind="delta",
            uri=catalog.uri_of(definition),
            schema=schema,
            is_stream=definition.stream is not None,
        )
    return Source(kind="function", schema=schema)
