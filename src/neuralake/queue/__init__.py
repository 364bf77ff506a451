"""The message queue between ingest and writer: durable, ordered, positions only grow."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from pathlib import Path

from neuralake.clock import Clock, SystemClock
from neuralake.errors import MissingExtra
from neuralake.queue.limits import Amount, QueueLimits
from neuralake.queue.memory import MemoryQueue
from neuralake.queue.producers import ProducerSequence
from neuralake.queue.protocol import (
    Appended,
    Backlog,
    Bounds,
    Envelope,
    Messages,
    Queue,
    QueueReader,
)
from neuralake.queue.remote import RemoteQueue
from neuralake.queue.sqlite import SqliteQueue
from neuralake.settings import Settings
from neuralake.telemetry import Telemetry

__all__ = [
    "Amount",
    "Appended",
    "Backlog",
    "Bounds",
    "Envelope",
    "MemoryQueue",
    "Messages",
    "ProducerSequence",
    "Queue",
    "QueueLimits",
    "QueueReader",
    "RemoteQueue",
    "SqliteQueue",
    "open_kafka",
    "open_queue",
    "queue_limits",
]


def open_queue(
    settings: Settings,
    clock: Clock | None = None,
    *,
    limits: QueueLimits | None = None,
    telemetry: Telemetry | None = None,
) -> Queue:
    """The lake's queue as `settings.queue` says; its file is made if it is not there.

    Args:
        limits: default: those of the settings. On Kafka its brokers' limits count.

    Raises:
        NeedsAttention: the file is damaged, of a newer release or not a queue.
        Unavailable: the disk is full or read-only.
        MissingExtra, SettingsError: as `open_kafka`, if it is on Kafka; as `RemoteQueue`, if it is
            another machine's.
    """
    if settings.queue.kind == "kafka":
        return open_kafka(settings, {}, clock)
    if settings.queue.kind == "http":
        folder = Path(settings.folder).expanduser().absolute()
        return RemoteQueue(settings.queue, folder=folder, clock=clock)
    return SqliteQueue(
        settings.queue_path,
        clock=clock or SystemClock(),
        limits=limits or queue_limits(settings, {}),
        keys_retention_s=settings.queue.keys_retention_hours * 3600,
        producers_retention_s=settings.queue.producers_retention_hours * 3600,
        lease_s=settings.writer.lease_s,
        telemetry=telemetry,
    )


def queue_limits(settings: Settings, topics: Mapping[str, Amount]) -> QueueLimits:
    """What the embedded queue may keep: as the settings say, but of `topics` as given."""
    queue = settings.queue
    return QueueLimits(
        whole=Amount(queue.bytes_max, queue.rows_max),
        topic=Amount(queue.table_bytes_max, queue.table_rows_max),
        topics=topics,
    )


def open_kafka(
    settings: Settings,
    foreign: Mapping[str, str],
    clock: Clock | None = None,
    *,
    values_only: Collection[str] = (),
) -> Queue:
    """The queue on the cluster of `settings.kafka`; asks nothing of it yet.

    Args:
        foreign: the topics that others produce to: the name in Kafka, by ours.
        values_only: those of them of which nobody asks for keys, times or headers.

    Raises:
        MissingExtra: its client library is not installed.
        SettingsError: no broker is named, or a file with secrets cannot be read.
    """
    if importlib.util.find_spec("confluent_kafka") is None:
        raise MissingExtra(
            "The Kafka queue needs an extra: pip install 'neuralake[kafka]'", extra="kafka"
        )
    from neuralake.queue.kafka import KafkaQueue

    return KafkaQueue(
        settings.kafka,
        folder=Path(settings.folder).expanduser().absolute(),
        foreign=foreign,
        values_only=values_only,
        clock=clock,
        bytes_max=settings.queue.bytes_max,
        keys_retention_s=settings.queue.keys_retention_hours * 3600,
    )
