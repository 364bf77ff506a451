"""Lazy reads: frames over Delta tables and Parquet files, in which filters reach the files."""

from neuralake.frame.delta import scan_delta, scan_snapshot
from neuralake.frame.frame import NlkDataFrame, concat
from neuralake.frame.parquet import scan_parquet

__all__ = ["NlkDataFrame", "concat", "scan_delta", "scan_parquet", "scan_snapshot"]
