"""A lake of one table that a Kafka topic feeds, and what must hold of it at the end."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer

import neuralake as nl
from neuralake.settings import KafkaSettings, LakeSettings, Settings, WriterSettings
from neuralake.tables import REJECTED_SUFFIX

__all__ = ["KafkaLake", "event", "produce"]

SCHEMA = pa.schema([("part", pa.int64()), ("id", pa.int64()), ("note", pa.string())])


def event(part: int, number: int) -> bytes:
    """The message `number` of the partition `part`."""
    return json.dumps({"part": part, "id": number, "note": "x" * 20}).encode()


def produce(producer: Producer, topic: str, part: int, numbers: Iterable[int]) -> None:
    """The messages are on their way when this returns; `flush` waits for them."""
    for number in numbers:
        while True:
            try:
                producer.produce(topic, event(part, number), partition=part)
                break
            except BufferError:
                producer.poll(0.05)


class KafkaLake:
    """The table `lab.events` below `root`, fed by `topic`."""

    def __init__(self, root: Path, brokers: str, topic: str, *, group: str = "writers") -> None:
        self.arguments = [str(root), brokers, topic, group]
        table = nl.DeltaTable(
            name="events",
            uri="events",
            schema=SCHEMA,
            stream=nl.Stream(kafka=nl.KafkaTopic(topic)),
        )
        settings = Settings(
            lake=LakeSettings(root=str(root)),
            # Often, so that a kill comes between commits as well as in them.
            writer=WriterSettings(flush_ms_max=20, flush_rows_max=2000),
            kafka=KafkaSettings(brokers=brokers, group=group, session_s=3.0, answer_s_max=5.0),
        )
        self.catalog = nl.Catalog({"lab": [table]}, settings)
        self.table, self.topic = table, topic
        self._folder = root / "events"

    def rows(self) -> dict[int, list[int]]:
        """The numbers in the table by partition, in the order of the commits."""
        found: dict[int, list[int]] = defaultdict(list)
        for entry in sorted((self._folder / "_delta_log").glob("*.json")):
            for line in entry.read_text().splitlines():
                if "add" in (action := json.loads(line)):
                    file = self._folder / str(action["add"]["path"])
                    for row in pq.read_table(file).to_pylist():
                        found[row["part"]].append(row["id"])
        return dict(found)

    def count(self) -> int:
        """Rows in the table now; 0 before there is one."""
        if not (self._folder / "_delta_log").exists():
            return 0
        return int(self.catalog.db("lab").table("events").collect().height)

    def rejected(self) -> list[dict[str, Any]]:
        """The rows of the table of rejected messages."""
        uri = f"{self._folder}{REJECTED_SUFFIX}"
        return pl.scan_delta(uri).collect().to_dicts()
