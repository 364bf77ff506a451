"""Database `neural`: a session in which a person moves a cursor while 256 channels listen."""

from __future__ import annotations

import pyarrow as pa

import neuralake as nl

__all__ = ["cursor", "spikes"]

spikes = nl.DeltaTable(
    name="spikes",
    uri="neural/spikes",
    schema=pa.schema(
        [
            ("event_id", pa.int64()),
            ("session", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("bin", pa.int32()),
            ("channel", pa.int32()),
            ("count", pa.int32()),
        ]
    ),
    partition_by=["session"],
    description="Spike counts per channel in bins of 20 ms: 12,800 rows a second.",
    owner="demo",
    tags=["simulated"],
    docs_columns={
        "event_id": "bin * 256 + channel: every row once.",
        "time": "End of the bin.",
        "count": "Spikes of this channel in this bin; Poisson, with cosine tuning to velocity.",
    },
    data_input="Simulated; see neuralake/demo/neural.py",
    unique_columns=["session", "event_id"],
    stream=nl.Stream(flush_ms_max=200),
)

cursor = nl.DeltaTable(
    name="cursor",
    uri="neural/cursor",
    schema=pa.schema(
        [
            ("event_id", pa.int64()),
            ("session", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("bin", pa.int32()),
            ("x", pa.float64()),
            ("y", pa.float64()),
            ("vx", pa.float64()),
            ("vy", pa.float64()),
            ("target_x", pa.float64()),
            ("target_y", pa.float64()),
        ]
    ),
    partition_by=["session"],
    description="Where the cursor is and where it should go, every 20 ms, sent one by one.",
    owner="demo",
    tags=["simulated"],
    docs_columns={
        "x": "From -1 (left) to 1 (right).",
        "vx": "Per second.",
        "target_x": "The target to reach; the centre between two reaches.",
    },
    data_input="Simulated; see neuralake/demo/neural.py",
    unique_columns=["session", "event_id"],
    stream=nl.Stream(),
)
