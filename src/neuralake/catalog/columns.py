"""The columns of tables that take new ones with their rows: as they are now, not as declared.

Apart from `read.py`, so that a server can ask without loading Polars.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.live import existing
from neuralake.schema import with_more
from neuralake.tables import Definition, DeltaTable

if TYPE_CHECKING:
    from neuralake.catalog.catalog import Catalog

__all__ = ["columns_now", "tail_columns", "with_evolved"]


def with_evolved(catalog: Catalog, definition: Definition, title: str) -> Definition:
    """`definition` with the columns that its table has besides; reads the table's log.

    Raises:
        UsageError: it is no Delta table.
    """
    if not isinstance(definition, DeltaTable):
        raise UsageError(f"{title!r} is a {definition.kind} table: its columns do not evolve.")
    found = columns_now(catalog, definition)
    if found is None:
        if not definition.is_stream:
            catalog.newest_at(catalog.uri_of(definition))  # Raises.
        return definition
    schema = with_more(definition.schema, found)
    return replace(definition, schema=schema, table_metadata_args=None)


def tail_columns(catalog: Catalog, definition: Definition) -> pa.Schema | None:
    """What the queue's tail is read into: `columns_now` of a table that takes new columns."""
    is_evolving = definition.stream is not None and definition.stream.evolves
    return columns_now(catalog, definition) if is_evolving else None


def columns_now(catalog: Catalog, definition: Definition) -> pa.Schema | None:
    """The columns of a Delta table as it is now; None if it is not there yet."""
    found = existing(lambda: catalog.newest_at(catalog.uri_of(definition)))
    return None if found is None else found.schema
