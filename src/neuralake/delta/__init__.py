"""The Delta commit engine: create tables, append to them, compact them, and look at them.

Commits are ours (one put of the data, one put-if-absent of the log entry); snapshots, checkpoints
and vacuum are delta-rs's. Nothing outside this folder uses deltalake.
"""

from neuralake.delta.clustering import clustering_properties
from neuralake.delta.commit import Commit, TableLog, Txn
from neuralake.delta.compaction import Compactor, CompactResult, compact_once
from neuralake.delta.maintenance import checkpoint, checkpoint_if_due
from neuralake.delta.partition import normalise
from neuralake.delta.snapshot import DataFile, Snapshot, exists, snapshot
from neuralake.delta.table import create_table
from neuralake.delta.vacuum import VacuumedFile, VacuumResult, vacuum

__all__ = [
    "Commit",
    "CompactResult",
    "Compactor",
    "DataFile",
    "Snapshot",
    "TableLog",
    "Txn",
    "VacuumResult",
    "VacuumedFile",
    "checkpoint",
    "checkpoint_if_due",
    "clustering_properties",
    "compact_once",
    "create_table",
    "exists",
    "normalise",
    "snapshot",
    "vacuum",
]
