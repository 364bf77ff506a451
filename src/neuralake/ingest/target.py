"""Where rows of one table go: its decoder, its topic, and its table's log."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.errors import NeedsAttention, SchemaMismatch, UsageError
from neuralake.ingest.committed import CommitWatch
from neuralake.ingest.decode import Decoder
from neuralake.queue.topic import app_id, topic_of
from neuralake.schema import declare
from neuralake.tables import Definition
from neuralake.writer import start_position

__all__ = ["Target", "Targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """One table that rows can be sent to."""

    database: str
    table: str
    topic: str
    schema: pa.Schema
    partition_by: tuple[str, ...]
    decoder: Decoder
    watch: CommitWatch


class Targets:
    """Finds targets by name and keeps them; a definition does not change while we run."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[tuple[str, str], Target] = {}

    def known(self, database: str, table: str) -> Target | None:
        """The target of `database.table` if it was found before; never waits."""
        return self._found.get((database, table))

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
        definition = self._catalog.definition(database, table)
        if not definition.is_stream or definition.schema is None:
            raise UsageError(
                f"Table {database}.{table} takes no rows: its definition has no stream. Add "
                f"stream=Stream() to the {type(definition).__name__}.",
                table=table,
                database=database,
            )
        topic = topic_of(database, table)
        schema = declare(definition.schema)
        self._refuse_contradiction(definition, schema, topic)
        return Target(
            database=database,
            table=table,
            topic=topic,
            schema=schema,
            partition_by=tuple(definition.partition_by),
            decoder=Decoder(
                schema,
                name=topic,
                partition_by=definition.partition_by,
                limits=self._catalog.settings.ingest,
            ),
            watch=CommitWatch(
                self._catalog.uri_of(definition), app_id(self._catalog.queue().id, topic)
            ),
        )

    def _refuse_contradiction(self, definition: Definition, schema: pa.Schema, topic: str) -> None:
        """Check, before the first row is acknowledged, that the writer will be able to commit it.

        The writer checks the same, but it may start later than the first row comes: a row that a
        restored queue stores at a position which the table has already would be taken for an old
        one, and rows of a changed definition would stand in the way of all later ones.
        """
        uri = self._catalog.uri_of(definition)
        if not delta.exists(uri):
            return  # The writer makes it.
        try:
            delta.create_table(uri, schema, partition_by=definition.partition_by)
        except SchemaMismatch as error:
            raise NeedsAttention(
                f"No rows are taken for {topic}: {error} Give the definition the table's columns, "
                f"or another uri for a new table.",
                table=topic,
                **error.facts,
            ) from error
        start_position(self._catalog.queue(), topic, delta.TableLog.open(uri))
