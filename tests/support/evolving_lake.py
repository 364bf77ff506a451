"""A lake whose table a Kafka topic feeds and brings new columns; and its writers, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from stepping import stepping

import neuralake as nl
from neuralake.clock import SystemClock
from neuralake.delta import TableLog, exists
from neuralake.queue.topic import app_id
from neuralake.records.envelopes import reader_of
from neuralake.settings import KafkaSettings, LakeSettings, Settings, WriterSettings
from neuralake.tables import REJECTED_SUFFIX
from neuralake.writer import FlushLimits, TopicWriter
from neuralake.writer.rejected import RejectedTable
from neuralake.writer.stream_table import make_table

__all__ = ["SCHEMA", "TOPIC", "EvolvingLake", "message"]

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("site", pa.string())])
TOPIC = "lab.events"


def message(id: Any, **columns: Any) -> bytes:
    """The message of a row."""
    return json.dumps({"id": id, **columns}).encode()


class EvolvingLake:
    """`lab.events` below `root`, fed by the Kafka topic `topic`."""

    def __init__(
        self, root: Path, kafka: KafkaSettings, topic: nl.KafkaTopic, **changes: Any
    ) -> None:
        stream = nl.Stream(kafka=topic, unknown_columns="evolve", **changes)
        self.table = nl.DeltaTable("events", "events", SCHEMA, stream=stream)
        settings = Settings(
            folder=str(root),
            lake=LakeSettings(root=str(root / "lake")),
            writer=WriterSettings(flush_ms_max=5),
            kafka=kafka,
        )
        self.catalog = nl.Catalog({"lab": [self.table]}, settings)
        self.queue = self.catalog.queue_of(self.table)

    def partitions(self) -> list[str]:
        return self.queue.partitions(TOPIC)

    def writer(
        self,
        partition: str,
        *,
        step: Callable[[str], None] = lambda _: None,
        rows_max: int = 100_000,
    ) -> TopicWriter:
        """As `neuralake write` makes it; `step` is told of each request to a store."""
        clock = SystemClock()
        make_table(self.catalog, self.table)
        rejected = self.catalog.store_at(self.catalog.uri_of(self.table) + REJECTED_SUFFIX)
        return TopicWriter(
            self.queue,
            partition,
            TableLog.open(stepping(self.catalog.store_of(self.table), step), clock=clock),
            FlushLimits(age_ms_max=1, rows_max=rows_max, bytes_max=10**8),
            reader=reader_of(self.table, self.catalog.settings, name=TOPIC),
            reject=RejectedTable(
                stepping(rejected, step),
                partition=partition,
                app_id=app_id(self.queue.id, partition),
                clock=clock,
            ).add,
        )

    def write_all(self) -> None:
        """Every partition is in the table when this returns."""
        for partition in self.partitions():
            if last := self.queue.bounds(partition).last:
                writer = self.writer(partition)
                while writer.position < last:
                    writer.step(flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """All that the table has, by id."""
        frame = self.catalog.db("lab").table("events", evolved=True).collect()
        return list(frame.sort("id").to_dicts())

    def kinds(self) -> dict[str, Any]:
        """The columns that came, with types."""
        frame = self.catalog.db("lab").table("events", evolved=True).collect()
        return {name: kind for name, kind in frame.schema.items() if name not in SCHEMA.names}

    def letters(self) -> list[dict[str, Any]]:
        uri = self.catalog.uri_of(self.table) + REJECTED_SUFFIX
        if not exists(self.catalog.store_at(uri)):
            return []
        return list(pl.scan_delta(uri).collect().sort("partition", "position", "row").to_dicts())

    def close(self) -> None:
        self.catalog.close()
