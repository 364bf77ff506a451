"""The rows of a queue's envelopes, whoever made them: ingest, or others' messages on a topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.queue import Envelope
from neuralake.queue.kafka_registry import SchemaRegistry
from neuralake.queue.rows import decode_rows
from neuralake.records.avro_message import AvroReader
from neuralake.records.dropped import Dropped
from neuralake.records.evolve import unified
from neuralake.records.letters import DeadLetter, letters_of
from neuralake.records.messages import Column, MessageReader, MessageRows
from neuralake.records.protobuf_message import ProtobufReader
from neuralake.records.rules import rules_of
from neuralake.settings import Settings
from neuralake.tables import Definition, KafkaTopic

__all__ = ["EnvelopeReader", "message_reader_of", "reader_of"]


class EnvelopeReader:
    """Reads the envelopes of one table; without `messages` those of ingest only.

    Args:
        evolves: envelopes may have more columns than `schema`.
    """

    def __init__(
        self,
        schema: pa.Schema,
        messages: MessageReader | None = None,
        *,
        evolves: bool = False,
    ) -> None:
        self._schema, self._messages, self._evolves = schema, messages, evolves

    def read(self, envelopes: Sequence[Envelope], *, into: pa.Schema | None = None) -> MessageRows:
        """The rows of `envelopes`, in order, and what gives none.

        Args:
            into: the columns of the table as it is now: with them new columns come too, behind
                these. Without, the rows have the declared columns.

        Raises:
            NeedsAttention: an envelope of ingest is damaged, or not of this table's kind.
        """
        tables: list[pa.Table] = []
        rejected: list[DeadLetter] = []
        tombstones, dropped = 0, Dropped()
        for is_foreign, group in groupby(envelopes, lambda envelope: envelope.messages is not None):
            if not is_foreign:
                if stored := [envelope for envelope in group if envelope.payload]:
                    tables.append(self._stored(stored, into, rejected))
                    rejected += [letter for envelope in stored for letter in letters_of(envelope)]
                continue
            for envelope in group:
                assert envelope.messages is not None  # noqa: S101 they were grouped by it
                assert self._messages is not None  # noqa: S101 only their tables' queues have them
                found = self._messages.read(envelope.messages)
                tables.append(found.rows)
                rejected += found.rejected
                tombstones += found.tombstones
                dropped.merge(found.dropped)
        if not tables:
            return MessageRows(self._schema.empty_table(), rejected, tombstones, dropped)
        rows = pa.concat_tables(tables, promote_options="default")
        return MessageRows(rows, rejected, tombstones, dropped)

    def _stored(
        self, stored: list[Envelope], into: pa.Schema | None, rejected: list[DeadLetter]
    ) -> pa.Table:
        if not self._evolves:
            return decode_rows(stored)
        found = [(envelope, decode_rows([envelope])) for envelope in stored]
        if into is not None:
            rows, letters = unified(found, into, self._schema)
            rejected += letters
            return rows
        # Each by itself: of new columns, which nobody asked for here, types may differ.
        names = self._schema.names
        return pa.concat_tables(
            [table.select([n for n in names if n in table.schema.names]) for _, table in found],
            promote_options="default",
        )


def reader_of(definition: Definition, settings: Settings, *, name: str) -> EnvelopeReader:
    """The reader of what the queue of `definition`, a stream table, gives.

    Raises:
        MissingExtra: its messages need a library that is not installed.
        SettingsError: its messages are Avro or Protobuf of a registry, and none is named.
    """
    assert definition.schema is not None  # noqa: S101 stream tables have one; for mypy
    if definition.stream is None or definition.stream.kafka is None:
        evolves = definition.stream is not None and definition.stream.evolves
        return EnvelopeReader(definition.schema, evolves=evolves)
    return EnvelopeReader(definition.schema, message_reader_of(definition, settings, name=name))


def message_reader_of(
    definition: Definition,
    settings: Settings,
    *,
    name: str,
    format: str | None = None,
    keeps_rows: bool | None = None,
) -> MessageReader:
    """The reader of the messages that `definition` is fed by. Raises as `reader_of`.

    Args:
        format: of the values, if not the topic's.
        keeps_rows: as `MessageReader`, if not as the table says.
    """
    stream = definition.stream
    assert definition.schema is not None  # noqa: S101 for mypy, as the next
    assert stream is not None and stream.kafka is not None  # noqa: S101, PT018 who asks knows
    kafka = stream.kafka
    format = format or kafka.format
    columns = [Column(kafka.key, "key")] if kafka.key else []
    columns += [Column(kafka.timestamp, "timestamp")] if kafka.timestamp else []
    columns += [Column(column, "header", header) for column, header in kafka.headers.items()]
    return MessageReader(
        definition.schema,
        name=name,
        partition_by=definition.partition_by,
        format=format,
        rows_max=settings.ingest.rows_max,
        columns=columns,
        record=_record_reader(kafka, format, settings),
        keeps_rows=stream.on_invalid == "dead_letter" if keeps_rows is None else keeps_rows,
        drops=stream.unknown_columns == "drop",
        rules=rules_of(definition, name=name),
        letters_max=settings.ingest.letters_max,
    )


def _record_reader(
    kafka: KafkaTopic, format: str, settings: Settings
) -> Callable[[bytes], tuple[Any, int]] | None:
    """What reads one message, in formats that are read one by one."""
    if format == "avro":
        return AvroReader(SchemaRegistry(settings.kafka).schema)
    if format != "protobuf":
        return None
    if kafka.message is None:
        # A letter from before: the topic's format was changed since.
        raise UsageError(
            f"It is protobuf, but KafkaTopic({kafka.name!r}) does not say which message."
        )
    if kafka.descriptors is not None:
        file = settings.path(kafka.descriptors)
        return ProtobufReader(kafka.message, file=file, framed=kafka.framed)
    registry = SchemaRegistry(settings.kafka, kind="PROTOBUF")
    return ProtobufReader(kafka.message, schema_of=registry.schema)
