"""`live=True` adds what is acknowledged and not committed, through the lake's own queue."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.filters import Filter
from neuralake.settings import Settings
from neuralake.tables import DeltaTable, Stream

SCHEMA = pa.schema([("session", pa.string()), ("n", pa.int32())])


def payload(*values: int) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_table(pa.table([["s"] * len(values), values], schema=SCHEMA))
    return bytes(sink.getvalue())


def test_an_acknowledged_row_is_in_the_live_frame_and_looking_up_opens_no_queue(
    tmp_path: Path,
) -> None:
    spikes = DeltaTable("spikes", "spikes", SCHEMA, stream=Stream())
    catalog = Catalog({"neural": [spikes]}, Settings(folder=str(tmp_path)))
    frame = catalog.neural.table("spikes", Filter("n", ">", 1), live=True, columns=["n"])
    assert list(tmp_path.iterdir()) == []

    catalog.queue().append("neural.spikes", payload(1, 2), 2)

    assert frame.collect().rows() == [(2,)]
    assert catalog.neural.spikes.collect().height == 0
    catalog.queue().close()
