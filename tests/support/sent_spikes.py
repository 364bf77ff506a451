"""Spikes as clients send them, and what a queue then holds of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from ingest_lake import SPIKES, stored

from neuralake.ingest import Client
from neuralake.queue import Queue

NOBODY = "http://127.0.0.1:9"
TABLE = "lab.spikes"


def spike(channel: int) -> dict[str, Any]:
    return {"session": "s", "channel": channel}


def channels(queue: Queue, topic: str = TABLE) -> list[int]:
    return [row["channel"] for row in stored(queue, topic)]


def send_each(client: Client, numbers: Iterable[int]) -> None:
    for n in numbers:
        client.send(TABLE, spike(n))


def spikes(*numbers: int) -> pa.Table:
    return pa.Table.from_pylist([spike(n) for n in numbers], schema=SPIKES)
