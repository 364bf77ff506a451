"""Read Parquet files lazily, with partition values taken from the names of their folders."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from neuralake import filters as conditions
from neuralake.filters import Filters
from neuralake.frame.frame import NlkDataFrame, as_frame

__all__ = ["scan_parquet"]


def scan_parquet(
    uri: str,
    schema: pa.Schema | None = None,
    filters: Filters = (),
    *,
    partition_schema: pa.Schema | None = None,
    hive: bool = True,
    name: str = "",
) -> NlkDataFrame:
    """A frame over the Parquet files at `uri`: a file, a folder or a glob."""
    partitioned = hive and partition_schema is not None and len(partition_schema) > 0
    frame = as_frame(
        pl.scan_parquet(
            uri,
            hive_partitioning=partitioned,
            hive_schema=pl.Schema(partition_schema) if partitioned else None,
        ),
        name=name,
    )
    kept = conditions.normalise(filters)
    if kept:
        declared = schema if schema is not None else frame.collect_schema().to_arrow()
        return as_frame(frame.filter(conditions.expression(kept, declared, name=name or uri)))
    return frame
