"""The rows that a batch write is about: a condition, settled file by file before any is read.

A partition's values decide its part of the condition, and the log's statistics rule out files.
What is left is asked of the rows, by the very expression that frames filter with: `delete(where)`
removes the rows that a frame with the same filters shows, and no others. A row for which the
condition is null stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from neuralake.delta.bounds import Statistics, partition_value
from neuralake.delta.column_mapping import Columns
from neuralake.errors import UsageError
from neuralake.filters import Conditions, Filter, Filters, check, expression

__all__ = ["EVERY_ROW", "Where"]

EVERY_ROW: Conditions = ()


class Where:
    """`filters` over tables of `schema`; `columns` are their names in the log.

    Raises:
        UsageError: there is no condition in it (a list that came out empty), or a value can never
            compare with its column.
        UnknownName: no such column.
    """

    def __init__(
        self,
        filters: Filters | None,
        schema: pa.Schema,
        partition_by: tuple[str, ...],
        name: str,
        columns: Columns | None = None,
    ) -> None:
        self.conditions = EVERY_ROW if filters is None else check(filters, schema, name=name)
        if filters is not None and not self.conditions:
            raise UsageError(
                f"where={filters!r} holds for every row of {name!r}. If all of them are meant, "
                f"leave where out of overwrite(rows); overwrite([]) empties the table.",
            )
        self.schema, self.partition_by, self._name = schema, partition_by, name
        self.names_in_log = columns
        self._rest: dict[tuple[str | None, ...], Conditions | None] = {}

    def __str__(self) -> str:
        groups = [" AND ".join(map(str, group)) for group in self.conditions]
        return " OR ".join(f"({group})" for group in groups) if len(groups) > 1 else "".join(groups)

    def within(self, partition: Mapping[str, str | None]) -> Conditions | None:
        """What is left to ask of the rows of a partition: `EVERY_ROW`, or None for no row."""
        key = tuple(partition[name] for name in self.partition_by)
        if key not in self._rest:
            self._rest[key] = self._settle(partition)
        return self._rest[key]

    def may_hold(self, partition: Mapping[str, str | None], stats: str | None) -> bool:
        """Whether a file can have a row for which the condition is true."""
        rest = self.within(partition)
        if rest is None or rest == EVERY_ROW:
            return rest is not None
        known = Statistics.of(stats, self.schema, self.names_in_log)
        return any(all(map(known.may_hold, group)) for group in rest)

    def mask(self, rows: pa.Table, conditions: Conditions) -> pa.ChunkedArray:
        """For each row whether it is one of those; `conditions` as `within` left them."""
        frame = pl.DataFrame(rows.select(self.columns(conditions)))
        found = frame.select(expression(conditions, self.schema, name=self._name).fill_null(False))
        return pa.chunked_array([found.to_series().to_arrow()])

    def columns(self, conditions: Conditions) -> list[str]:
        """The columns that `mask` needs."""
        return list({each.column: None for group in conditions for each in group})

    def _settle(self, partition: Mapping[str, str | None]) -> Conditions | None:
        # A filter on a partition column is true for all rows of a partition, or for none.
        groups = []
        for group in self.conditions:
            own = [each for each in group if each.column in self.partition_by]
            if all(self._is_true(each, partition) for each in own):
                groups.append(tuple(each for each in group if each not in own))
        if not self.conditions or () in groups:
            return EVERY_ROW
        return tuple(groups) or None

    def _is_true(self, condition: Filter, partition: Mapping[str, str | None]) -> bool:
        value = partition_value(partition[condition.column], self.schema.field(condition.column))
        row = pa.table({condition.column: value})
        return bool(self.mask(row, ((condition,),))[0].as_py())
