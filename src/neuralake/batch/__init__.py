"""Batch writes: append, overwrite, delete and merge as single commits beside the stream writers."""

from neuralake.batch.result import BatchResult
from neuralake.batch.writer import BatchWriter

__all__ = ["BatchResult", "BatchWriter"]
