"""The Delta commit engine: create tables, append to them, compact them, and look at them.

Commits are ours (one put of the data, one put-if-absent of the log entry); snapshots, checkpoints
and vacuum are delta-rs's. Nothing outside this folder uses deltalake.
"""

from neuralake.delta.commit import Commit, TableLog, Txn
from neuralake.delta.compaction import CompactResult, compact_once
from neuralake.delta.maintenance import checkpoint, checkpoint_if_due, vacuum
from neuralake.delta.partition import normalise
from neuralake.delta.snapshot import DataFile, Snapshot, exists, snapshot
from neuralake.delta.table import create_table

__all__ = [
    "Commit",
    "CompactResult",
    "DataFile",
    "Snapshot",
    "TableLog",
    "Txn",
    "checkpoint",
    "checkpoint_if_due",
    "compact_once",
    "create_table",
    "exists",
    "normalise",
    "snapshot",
    "vacuum",
]
