"""Add columns to a table: a change of its metadata alone; rows from before have null there."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from neuralake.delta.actions import Action, CommitInfo
from neuralake.delta.commit import TableLog
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.growth import Growth
from neuralake.errors import CommitConflict

__all__ = ["add_columns"]

_TRIES = 20


def add_columns(log: TableLog, fields: Sequence[pa.Field]) -> int:
    """Add those of `fields` that the table lacks, behind its columns; return its version.

    Safe to repeat, and to do at once from many processes.

    Raises:
        UsageError, UnsupportedFeature: as `Growth`.
        CommitConflict: others changed the table again and again.
    """
    for left in reversed(range(_TRIES)):
        version = log.refresh()
        growth = Growth(log.state, fields, uri=log.store.uri)
        if growth.after is growth.before:
            return version
        names = [field.name for field in fields if field.name not in log.schema.names]
        info = CommitInfo(
            operation="ADD COLUMNS", operation_parameters={"columns": ", ".join(names)}
        )

        def actions(now_ms: int, growth: Growth = growth) -> list[Action]:
            return growth.actions(log.version + 1, now_ms)

        try:
            footprint = Footprint(Operation.SCHEMA_CHANGE, version=version)
            log.commit(actions, info, footprint=footprint)
        except CommitConflict:
            if not left:
                raise
    return log.refresh()
