"""Delete and overwrite: the rows of a slice of the table go, and new ones may take their place.

A slice is the rows that a condition holds for, whole partitions, or all. Files wholly inside it
are dropped unread, files outside stay; only what is cut is read, and its other rows are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.batch.change import Outcome, live_rows, rewrite
from neuralake.batch.where import EVERY_ROW, Where
from neuralake.delta import DataFile
from neuralake.delta.bounds import partition_value
from neuralake.delta.conflicts import Operation
from neuralake.delta.files import DataFiles
from neuralake.filters import Conditions

__all__ = ["Delete", "Overwrite", "Partitions"]


class Partitions(Where):
    """The partitions that `rows` have rows of."""

    def __init__(self, rows: pa.Table, partition_by: tuple[str, ...], name: str) -> None:
        super().__init__(None, rows.schema, partition_by, name)
        self._fields = [rows.schema.field(column) for column in partition_by]
        # As values, not as texts: engines write the same timestamp in more than one way.
        found = rows.group_by(list(partition_by)).aggregate([])
        self._values = {tuple(row.values()) for row in found.to_pylist()}

    def _settle(self, partition: Mapping[str, str | None]) -> Conditions | None:
        values = tuple(
            partition_value(partition[field.name], field)[0].as_py() for field in self._fields
        )
        return EVERY_ROW if values in self._values else None


class Delete:
    """Remove the rows of a slice."""

    operation = Operation.DELETE
    removes_rows = True

    def __init__(self, where: Where) -> None:
        self._where = where

    def may_touch(self, partition: Mapping[str, str | None], stats: str | None) -> bool:
        return self._where.may_hold(partition, stats)

    def outcome(self, files: DataFiles, file: DataFile) -> Outcome:
        rest = self._where.within(file.partition)
        if rest is None:
            return Outcome()
        if rest == EVERY_ROW:
            return Outcome(deleted=live_rows(files, file))
        # First the columns of the condition alone: most files that are looked at stay as they are.
        found = files.read(file, columns=self._where.columns(rest))
        masks = [chunk for rows in found for chunk in self._where.mask(rows, rest).chunks]
        goes = pa.chunked_array(masks, pa.bool_())
        deleted = pc.sum(goes).as_py() or 0
        copied = len(goes) - deleted
        if not deleted or not copied:
            return Outcome(deleted=deleted)
        kept = rewrite(files, file, _chosen(files.read(file), pc.invert(goes)), rows=copied)
        return Outcome(kept, deleted=deleted, copied=copied)

    def added(self, _outcomes: Iterable[Outcome], /) -> pa.Table:
        return self._where.schema.empty_table()

    def parameters(self) -> dict[str, Any]:
        return {"predicate": _json([str(self._where)])}


class Overwrite(Delete):
    """Put `rows`, which are fitted and in the slice, in the place of its rows."""

    operation = Operation.OVERWRITE

    def __init__(self, where: Where, rows: pa.Table) -> None:
        super().__init__(where)
        self._rows = rows

    def added(self, _outcomes: Iterable[Outcome], /) -> pa.Table:
        return self._rows

    def parameters(self) -> dict[str, Any]:
        how: dict[str, Any] = {"mode": "Overwrite", "partitionBy": _json(self._where.partition_by)}
        if isinstance(self._where, Partitions):
            return {**how, "partitionOverwriteMode": "dynamic"}
        return {**how, "predicate": str(self._where)} if self._where.conditions else how


def _chosen(batches: Iterable[pa.Table], mask: pa.ChunkedArray) -> Iterator[pa.Table]:
    """The rows of `batches` that `mask`, which goes on through all of them, is true for."""
    start = 0
    for rows in batches:
        chosen = rows.filter(mask.slice(start, rows.num_rows))
        start += rows.num_rows
        if chosen.num_rows:
            yield chosen


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
