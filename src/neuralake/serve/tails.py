"""What the gateway reads of the lake's queues for live queries, a page at a time."""

from __future__ import annotations

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.catalog.columns import tail_columns
from neuralake.live import read_page
from neuralake.queue import Queue
from neuralake.queue.protocol import TAIL_BYTES_MAX
from neuralake.queue.topic import topic_of
from neuralake.records.envelopes import reader_of
from neuralake.schema import declare, with_more
from neuralake.serve.messages import AskPage, AskQueue, Page, QueueState

__all__ = ["look_at_queue", "read_queue"]


def look_at_queue(catalog: Catalog, ask: AskQueue) -> QueueState:
    """Which queue a stream table's rows travel on, and where its partitions are.

    Raises what the queue raises.
    """
    queue, topic = _queue(catalog, ask), topic_of(ask.database, ask.table)
    bounds = {name: queue.bounds(name) for name in queue.partitions(topic)}
    return QueueState(
        queue=queue.id,
        partitions={name: (found.last, found.trimmed) for name, found in bounds.items()},
    )


def read_queue(catalog: Catalog, ask: AskPage) -> Page:
    """The next rows of a partition; none, and the position that was asked for, if that is all.

    They have the columns that the table has now, where it takes new ones.

    Raises what `read_page` raises.
    """
    definition, queue = catalog.definition(ask.database, ask.table), _queue(catalog, ask)
    assert definition.schema is not None  # noqa: S101 stream tables have one; for mypy
    schema, name = declare(definition.schema), topic_of(ask.database, ask.table)
    into = tail_columns(catalog, definition)
    identity = queue.id
    page = read_page(
        queue,
        ask.partition,
        after=ask.after,
        schema=schema if into is None else with_more(schema, into),
        reader=reader_of(definition, catalog.settings, name=name),
        into=lambda: into,
        bytes_max=TAIL_BYTES_MAX,
    )
    if page is None:
        return Page(queue=identity, position=ask.after)
    if not page.rows.num_rows:
        return Page(queue=identity, position=page.position)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, page.rows.schema) as stream:
        stream.write_table(page.rows)
    return Page(
        queue=identity,
        position=page.position,
        rows=page.rows.num_rows,
        payload=sink.getvalue().to_pybytes(),
    )


def _queue(catalog: Catalog, ask: AskQueue | AskPage) -> Queue:
    return catalog.queue_of(catalog.definition(ask.database, ask.table))
