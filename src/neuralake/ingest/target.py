"""Where rows of one table go: its topic, its table's log, and the decoder of what is sent to it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.delta import exists, snapshot
from neuralake.errors import UnknownName, UsageError
from neuralake.ingest.combine import Combiner
from neuralake.ingest.committed import CommitWatch, Watches
from neuralake.queue import Queue
from neuralake.queue.topic import topic_of
from neuralake.records.decode import Decoder, decoder_of
from neuralake.records.evolving import EvolvingDecoder
from neuralake.schema import declare
from neuralake.tables import Definition, DeltaTable, Stream
from neuralake.writer import refuse_contradiction

__all__ = ["Flow", "Target", "Targets", "takes_no_rows"]


@dataclass(frozen=True, slots=True)
class Flow:
    """From the queue to the table of one stream, whoever puts its rows into the queue."""

    database: str
    table: str
    topic: str
    queue: Queue
    schema: pa.Schema
    partition_by: tuple[str, ...]
    watch: CommitWatch


@dataclass(frozen=True, slots=True)
class Target(Flow):
    """One table that rows can be sent to."""

    decoder: Decoder | EvolvingDecoder
    combiner: Combiner


def takes_no_rows(database: str, definition: Definition) -> UsageError:
    """The error for rows that are sent to a table without a stream."""
    if isinstance(definition, DeltaTable):
        why = "its definition has no stream. Add stream=nl.Stream() to it."
    else:
        kind = definition.kind.capitalize()
        why = f"it is a {kind} table, which is only read. Rows go to a DeltaTable with a stream."
    return UsageError(
        f"Table {database}.{definition.name} takes no rows: {why}",
        table=definition.name,
        database=database,
    )


class Targets:
    """Finds targets by name and keeps them; a definition does not change while we run."""

    def __init__(self, catalog: Catalog, watches: Watches) -> None:
        self._catalog, self._watches = catalog, watches
        self._found: dict[tuple[str, str], Target] = {}

    def known(self, database: str, table: str) -> Target | None:
        """The target of `database.table` if it was found before; never waits."""
        return self._found.get((database, table))

    async def drained(self) -> None:
        """Return when the small requests for all of them have been told their end."""
        for target in [*self._found.values()]:
            await target.combiner.drained()

    def find(self, database: str, table: str) -> Target:
        """The target of `database.table`. The first time it reads the table's log.

        Raises:
            UnknownName: no such database or table; `known` lists what there is.
            UsageError: the table takes no rows: its definition has no `stream`.
            NeedsAttention: the writer could not commit rows: the table has other columns than its
                definition, or table and queue contradict each other.
        """
        target = self._found.get((database, table))
        if target is None:
            # Requests that ask at the same time share what was kept first.
            target = self._found.setdefault((database, table), self._make(database, table))
        return target

    def _make(self, database: str, table: str) -> Target:
        definition, stream = self._definition(database, table)
        if stream.kafka is not None:
            raise UsageError(
                f"Table {database}.{table} takes no rows: it is fed by Kafka topic "
                f"{stream.kafka.name!r}. Produce to that.",
                table=table,
                database=database,
            )
        refuse_contradiction(self._catalog, database, definition)
        flow = self._flow(database, definition)
        decoder = self._decoder(definition, flow.topic)
        return Target(
            **{field.name: getattr(flow, field.name) for field in fields(flow)},
            decoder=decoder,
            combiner=Combiner(flow.queue, flow.topic, decoder),
        )

    def flow(self, database: str, table: str) -> Flow:
        """The queue and table of `database.table`, also of one that takes no rows from us.

        Raises:
            UnknownName, NeedsAttention: as `find`; but of a table that Kafka feeds nothing is
                refused, since nothing is acknowledged: what there is, is told.
            UsageError: it is no stream table.
        """
        if (known := self.known(database, table)) is not None:
            return known
        definition, stream = self._definition(database, table)
        if stream.kafka is None:
            return self.find(database, table)
        return self._flow(database, definition)

    def _definition(self, database: str, table: str) -> tuple[DeltaTable, Stream]:
        try:
            definition = self._catalog.definition(database, table)
        except UnknownName as error:
            raise UnknownName(
                f"{error.message} A platform knows the definitions it was started with: after a "
                f"change, restart it.",
                **error.facts,
            ) from error
        if not isinstance(definition, DeltaTable) or definition.stream is None:
            raise takes_no_rows(database, definition)
        return definition, definition.stream

    def _flow(self, database: str, definition: DeltaTable) -> Flow:
        return Flow(
            database=database,
            table=definition.name,
            topic=topic_of(database, definition.name),
            queue=self._catalog.queue_of(definition),
            schema=declare(definition.schema),
            partition_by=tuple(definition.partition_by),
            watch=self._watches.of(definition),
        )

    def _decoder(self, definition: DeltaTable, topic: str) -> Decoder | EvolvingDecoder:
        settings, schema = self._catalog.settings, declare(definition.schema)
        if definition.stream is None or not definition.stream.evolves:
            return decoder_of(definition, settings, name=topic)
        store = self._catalog.store_of(definition)
        return EvolvingDecoder(
            lambda known: decoder_of(definition, settings, name=topic, schema=known),
            schema,
            lambda: snapshot(store).schema if exists(store) else None,
        )
