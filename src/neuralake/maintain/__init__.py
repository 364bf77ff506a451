"""Upkeep of a catalog's Delta tables, as passes and as loops."""

from neuralake.maintain.loop import (
    checkpoint_all,
    clean_logs,
    compact_all,
    run_compaction,
    run_vacuum,
    vacuum_all,
)

__all__ = [
    "checkpoint_all",
    "clean_logs",
    "compact_all",
    "run_compaction",
    "run_vacuum",
    "vacuum_all",
]
