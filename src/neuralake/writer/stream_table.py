"""Make the Delta table of a stream as its definition says, unless it is there."""

from __future__ import annotations

from neuralake.catalog import Catalog
from neuralake.delta import STREAM_PROPERTIES, clustering_properties, create_table
from neuralake.storage import LogStore
from neuralake.tables import DeltaTable

__all__ = ["make_table"]


def make_table(catalog: Catalog, table: DeltaTable) -> LogStore:
    """The store of `table`, which is there when this returns. Raises as `create_table`."""
    store = catalog.store_of(table)
    create_table(
        store,
        table.schema,
        partition_by=table.partition_by,
        description=table.description,
        may_have_more=table.stream is not None and table.stream.evolves,
        properties={**STREAM_PROPERTIES, **clustering_properties(table.cluster_by)},
    )
    return store
