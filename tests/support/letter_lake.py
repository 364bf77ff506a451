"""A lake whose tables keep rows that do not fit as dead letters."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.delta import exists, snapshot
from neuralake.queue.topic import app_id
from neuralake.settings import IngestSettings, LakeSettings, Settings, WriterSettings
from neuralake.tables import REJECTED_SUFFIX, DeltaTable, Stream
from neuralake.writer import run_writer

__all__ = ["EVENTS", "letter_lake", "letters", "written"]

EVENTS = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), ("count", pa.int16()), ("site", pa.string())]
)


def letter_lake(folder: Path, **limits: Any) -> Catalog:
    """`lab.events` keeps dead letters, `lab.strict` refuses; `limits` are those of `[ingest]`."""
    settings = Settings(
        folder=str(folder),
        lake=LakeSettings(root=str(folder / "lake")),
        ingest=IngestSettings(**limits),
        writer=WriterSettings(flush_ms_max=5),
    )
    tables = [
        DeltaTable(
            "events",
            "lab/events",
            EVENTS,
            partition_by=["site"],
            stream=Stream(on_invalid="dead_letter"),
        ),
        DeltaTable("strict", "lab/strict", EVENTS, stream=Stream()),
    ]
    return Catalog({"lab": tables}, settings)


def written(catalog: Catalog) -> None:
    """Everything in the queue is in the tables when this returns."""
    stop = threading.Event()
    thread = threading.Thread(target=run_writer, args=(catalog,), kwargs={"stop": stop})
    thread.start()
    deadline_s = time.monotonic() + 90
    while not all(_is_written(catalog, topic) for topic in catalog.queue().topics()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    stop.set()
    thread.join()


def _is_written(catalog: Catalog, topic: str) -> bool:
    database, table = topic.split(".")
    store, queue = catalog.store_of(catalog.definition(database, table)), catalog.queue()
    found = snapshot(store).txn(app_id(queue.id, topic)) if exists(store) else None
    return found == queue.bounds(topic).last


def letters(catalog: Catalog) -> list[dict[str, Any]]:
    """The dead letters of `lab.events` in order."""
    uri = catalog.uri_of(catalog.definition("lab", "events")) + REJECTED_SUFFIX
    if not exists(catalog.store_at(uri)):
        return []
    import polars as pl

    found = pl.scan_delta(uri).collect().sort("position", "row")
    return list(found.to_dicts())
