"""The Delta commit engine: create tables, append to them, compact them, and look at them.

All of it is our own code over a store's few operations: a commit is one put of the data and one
put-if-absent of the log entry. delta-rs opens the same versions for SQL over whole tables;
nothing outside this folder uses deltalake.
"""

from neuralake.delta.checkpoint import checkpoint, checkpoint_if_due
from neuralake.delta.cleanup import STREAM_PROPERTIES, CleanupResult, cleanup
from neuralake.delta.clustering import clustering_properties
from neuralake.delta.columns import add_columns
from neuralake.delta.commit import Commit, TableLog, Txn
from neuralake.delta.compaction import Compactor, CompactResult, compact_once
from neuralake.delta.growth import AddedColumn, added_columns
from neuralake.delta.newest import Newest
from neuralake.delta.partition import normalise
from neuralake.delta.snapshot import DataFile, Snapshot, exists, snapshot
from neuralake.delta.table import create_table
from neuralake.delta.vacuum import VacuumedFile, VacuumResult, vacuum

__all__ = [
    "STREAM_PROPERTIES",
    "AddedColumn",
    "CleanupResult",
    "Commit",
    "CompactResult",
    "Compactor",
    "DataFile",
    "Newest",
    "Snapshot",
    "TableLog",
    "Txn",
    "VacuumResult",
    "VacuumedFile",
    "add_columns",
    "added_columns",
    "checkpoint",
    "checkpoint_if_due",
    "cleanup",
    "clustering_properties",
    "compact_once",
    "create_table",
    "exists",
    "normalise",
    "snapshot",
    "vacuum",
]
