"""A lake whose tables take rows over HTTP, and what its queue holds. For tests of ingest."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.queue import Queue
from neuralake.settings import IngestSettings, LakeSettings, QueueSettings, Settings
from neuralake.tables import DeltaTable, ParquetTable, Stream

SPIKES = pa.schema(
    [
        pa.field("session", pa.string(), nullable=False),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int16()),
        ("rate", pa.float32()),
    ]
)
NOTES = pa.schema([("author", pa.string()), ("text", pa.string())])


def lab() -> ModuleType:
    """A database: `spikes` and `notes` take rows, `fixed` and `archive` do not."""
    module = ModuleType("lab")
    tables = [
        DeltaTable("spikes", "lab/spikes", SPIKES, stream=Stream()),
        DeltaTable("notes", "lab/notes", NOTES, partition_by=["author"], stream=Stream()),
        DeltaTable("fixed", "lab/fixed", SPIKES),
        ParquetTable("archive", "lab/archive", SPIKES),
    ]
    for definition in tables:
        setattr(module, definition.name, definition)
    return module


def lake(folder: Path, *, queue: QueueSettings | None = None, **limits: Any) -> Catalog:
    """A lake in `folder`; `limits` are the settings of `[ingest]`."""
    settings = Settings(
        folder=str(folder),
        lake=LakeSettings(root=str(folder / "lake")),
        ingest=IngestSettings(**limits),
        queue=queue or QueueSettings(),
    )
    return Catalog({"lab": lab()}, settings)


def stored(queue: Queue, topic: str) -> list[dict[str, Any]]:
    """Every row that the queue holds for `topic`, in order."""
    return [
        row
        for envelope in queue.read(topic, after=0, envelopes_max=1_000_000, bytes_max=2**40)
        for row in pa.ipc.open_stream(envelope.payload).read_all().to_pylist()
    ]


def arrow_stream(rows: pa.Table, compression: str | None = None) -> bytes:
    """`rows` as a client's Arrow library writes them."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
