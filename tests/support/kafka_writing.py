"""A writer of the lake `lab.events` that a Kafka topic feeds, run until it has nothing to do."""

from __future__ import annotations

import threading
import time

import neuralake as nl
from neuralake.delta import exists, snapshot
from neuralake.queue.topic import app_id
from neuralake.telemetry import Telemetry
from neuralake.writer import run_writer

__all__ = ["write_all"]


def write_all(catalog: nl.Catalog, telemetry: Telemetry | None = None) -> None:
    """Run a writer until the table has what the topic has."""
    definition = catalog.definition("lab", "events")
    queue, store = catalog.queue_of(definition), catalog.store_of(definition)
    stop, deadline_s = threading.Event(), time.monotonic() + 90

    def is_done() -> bool:
        if not exists(store):
            return False
        found = snapshot(store)
        return all(
            (found.txn(app_id(queue.id, name)) or 0) >= queue.bounds(name).last
            for name in queue.partitions("lab.events")
        )

    options = {"stop": stop, "telemetry": telemetry}
    thread = threading.Thread(target=run_writer, args=(catalog,), kwargs=options)
    thread.start()
    try:
        while not is_done():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
