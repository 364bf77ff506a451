"""The rows of a queue's envelopes, whoever made them: ingest, or others' messages on a topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.queue import Envelope
from neuralake.queue.kafka_registry import SchemaRegistry
from neuralake.queue.protocol import Messages
from neuralake.queue.rows import decode_rows
from neuralake.records.avro_message import AvroReader
from neuralake.records.dropped import Dropped
from neuralake.records.evolve import unified
from neuralake.records.evolving_messages import EvolvingMessages, JoinedMessages
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
        schema: the declared columns.
        evolves: envelopes may have more columns than `schema`.
    """

    def __init__(
        self,
        schema: pa.Schema,
        messages: MessageReader | EvolvingMessages | None = None,
        *,
        evolves: bool = False,
    ) -> None:
        self._schema, self._messages, self.evolves = schema, messages, evolves

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
            for found in self._foreign([envelope.messages for envelope in group], into):
                tables.append(found.rows)
                rejected += found.rejected
                tombstones += found.tombstones
                dropped.merge(found.dropped)
        rejected.sort(key=lambda letter: letter.position)  # As `RejectedTable` counts on.
        if not tables:
            return MessageRows(self._schema.empty_table(), rejected, tombstones, dropped)
        rows = pa.concat_tables(tables, promote_options="default")
        if self.evolves and into is None:
            names = rows.schema.names
            rows = rows.select([name for name in self._schema.names if name in names])
        return MessageRows(rows, rejected, tombstones, dropped)

    def _foreign(
        self, parts: Sequence[Messages | None], into: pa.Schema | None
    ) -> Iterator[MessageRows]:
        messages = [part for part in parts if part is not None]
        assert self._messages is not None  # noqa: S101 only their tables' queues have them
        if isinstance(self._messages, MessageReader):
            yield from map(self._messages.read, messages)
        else:  # Together, as a new column has one type.
            yield self._messages.read(JoinedMessages(messages), into or self._schema)

    def _stored(
        self, stored: list[Envelope], into: pa.Schema | None, rejected: list[DeadLetter]
    ) -> pa.Table:
        if not self.evolves:
            return decode_rows(stored)
        found = [(envelope, decode_rows([envelope])) for envelope in stored]
        rows, letters = unified(found, into or self._schema, self._schema)
        rejected += letters
        return rows


def reader_of(definition: Definition, settings: Settings, *, name: str) -> EnvelopeReader:
    """The reader of what the queue of `definition`, a stream table, gives.

    Raises:
        MissingExtra: its messages need a library that is not installed.
        SettingsError: its messages are Avro or Protobuf of a registry, and none is named.
    """
    assert definition.schema is not None  # noqa: S101 stream tables have one; for mypy
    stream, schema = definition.stream, definition.schema
    if stream is None or stream.kafka is None:
        return EnvelopeReader(schema, evolves=stream is not None and stream.evolves)
    if not stream.evolves:
        return EnvelopeReader(schema, message_reader_of(definition, settings, name=name))
    # One for all: what is known of a registry's schemas is shared.
    record = _record_reader(stream.kafka, stream.kafka.format, settings)

    def make(known: pa.Schema, drops: bool) -> MessageReader:
        return _message_reader(
            definition, settings, name=name, schema=known, record=record, drops=drops
        )

    messages = EvolvingMessages(make, schema, takes_first=stream.kafka.format == "arrow")
    return EnvelopeReader(schema, messages, evolves=True)


def message_reader_of(
    definition: Definition,
    settings: Settings,
    *,
    name: str,
    format: str | None = None,
    keeps_rows: bool | None = None,
    schema: pa.Schema | None = None,
) -> MessageReader:
    """The reader of the messages that `definition` is fed by. Raises as `reader_of`.

    Args:
        format: of the values, if not the topic's.
        keeps_rows: as `MessageReader`, if not as the table says.
        schema: the declared one with more columns behind it, which came with rows.
    """
    assert definition.stream is not None and definition.stream.kafka is not None  # noqa: S101, PT018 who asks knows
    kafka = definition.stream.kafka
    format = format or kafka.format
    return _message_reader(
        definition,
        settings,
        name=name,
        format=format,
        keeps_rows=keeps_rows,
        schema=schema,
        record=_record_reader(kafka, format, settings),
        drops=definition.stream.unknown_columns == "drop",
    )


def _message_reader(
    definition: Definition,
    settings: Settings,
    *,
    name: str,
    record: Callable[[bytes], tuple[Any, int]] | None,
    drops: bool,
    format: str | None = None,
    keeps_rows: bool | None = None,
    schema: pa.Schema | None = None,
) -> MessageReader:
    stream, declared = definition.stream, definition.schema
    assert declared is not None  # noqa: S101 for mypy, as the next
    assert stream is not None and stream.kafka is not None  # noqa: S101, PT018 who asks knows
    kafka, schema = stream.kafka, schema or declared
    columns = [Column(kafka.key, "key")] if kafka.key else []
    columns += [Column(kafka.timestamp, "timestamp")] if kafka.timestamp else []
    columns += [Column(column, "header", header) for column, header in kafka.headers.items()]
    return MessageReader(
        schema,
        name=name,
        partition_by=definition.partition_by,
        format=format or kafka.format,
        rows_max=settings.ingest.rows_max,
        cells_max=settings.ingest.cells_max,
        columns=columns,
        record=record,
        keeps_rows=stream.on_invalid == "dead_letter" if keeps_rows is None else keeps_rows,
        drops=drops,
        evolved=schema.names[len(declared) :] if stream.evolves else None,
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
