"""The tables of one query: opened once, described by stand-ins, then read with the files it needs.

Planning happens twice. First over stand-ins without rows, which tells the filters of each scan;
then over the real tables, of which only files that can match are kept. Both see one snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
from datafusion import DataFrame, SessionContext, col, lit
from datafusion.catalog import Table
from datafusion.expr import Expr

from neuralake.delta import Snapshot
from neuralake.serve.prune import Ranges, file_ranges, may_match

__all__ = ["DeltaScan", "fixed"]

# Each file is a branch of the plan; beyond this, planning costs more than it saves.
_FILES_MAX = 400
_GLOB = frozenset("*?[")


def fixed(rows: pa.Table) -> Table:
    """A table of these rows."""
    return Table(ds.dataset(rows))


class DeltaScan:
    """A snapshot of a Delta table that gives the planner what it needs to read, and not more."""

    def __init__(self, snapshot: Snapshot, uri: str) -> None:
        self._snapshot, self._uri = snapshot, uri

    def stand_in(self) -> Table:
        """No rows, the right columns; takes filters."""
        return fixed(self._snapshot.schema.empty_table())

    def table(self, context: SessionContext, scans: Sequence[Sequence[Expr]] | None) -> Table:
        """The rows that any of `scans` (each a list of filters) can need; None needs all."""
        if scans is None or not all(scans) or "://" in self._uri:
            return Table(self._snapshot.delta_table)
        actions = pa.table(self._snapshot.delta_table.get_add_actions())
        kept = [
            (Path(self._uri, unquote(path)), ranges)
            for path, ranges in file_ranges(actions, self._snapshot.partition_by)
            if any(may_match(filters, ranges) for filters in scans)
        ]
        if not kept:
            return self.stand_in()
        if len(kept) > _FILES_MAX or any(_GLOB & set(str(path)) for path, _ in kept):
            return Table(self._snapshot.delta_table)
        return Table(_union([self._file(context, path, ranges) for path, ranges in kept]))

    def _file(self, context: SessionContext, path: Path, ranges: Ranges) -> DataFrame:
        schema, partition_by = self._snapshot.schema, self._snapshot.partition_by
        inside = pa.schema([field for field in schema if field.name not in partition_by])
        columns = []
        for field in schema:
            if field.name in partition_by:
                span = ranges[field.name]
                value = pa.scalar(None if span is None else span[0], field.type)
                columns.append(lit(value).alias(field.name))
            else:
                columns.append(col(f'"{field.name}"'))
        return context.read_parquet(str(path), schema=inside, file_extension="").select(*columns)


def _union(frames: list[DataFrame]) -> DataFrame:
    """A balanced tree: a chain as deep as it is long overflows the planner's stack."""
    while len(frames) > 1:
        pairs = [frames[at : at + 2] for at in range(0, len(frames), 2)]
        frames = [pair[0] if len(pair) == 1 else pair[0].union(pair[1]) for pair in pairs]
    return frames[0]
