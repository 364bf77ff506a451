"""Whether the writer will be able to commit rows, asked before one is acknowledged.

The writer checks the same when it opens a table, but it may start later than the first row comes: a
row that a restored queue stores at a position which the table has already would be taken for an old
one, and rows of a changed definition would stand in the way of all later ones.
"""

from __future__ import annotations

from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.errors import NeedsAttention, SchemaMismatch
from neuralake.queue.topic import topic_of
from neuralake.tables import DeltaTable
from neuralake.writer.topic_writer import start_position

__all__ = ["refuse_contradiction"]


def refuse_contradiction(catalog: Catalog, database: str, table: DeltaTable) -> None:
    """Compare the definition of a stream, its table, and the queue; a table not made yet is fine.

    Raises:
        NeedsAttention: the table has other columns or partitions than its definition, or table and
            queue contradict each other, as after restoring only one of them.
        Unavailable: the store or the queue do not answer.
    """
    topic, store = topic_of(database, table.name), catalog.store_of(table)
    if not delta.exists(store):
        return  # The writer makes it.
    try:
        delta.create_table(
            store,
            table.schema,
            partition_by=table.partition_by,
            may_have_more=table.stream is not None and table.stream.evolves,
        )
    except SchemaMismatch as error:
        raise NeedsAttention(
            f"No rows are taken for {topic}: {error} Give the definition the table's columns, or "
            f"another uri for a new table.",
            table=topic,
            **error.facts,
        ) from error
    queue, log = catalog.queue_of(table), delta.TableLog.open(store)
    for partition in queue.partitions(topic):
        start_position(queue, partition, log)
