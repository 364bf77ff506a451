"""The keys of a merge's source: which file can have one, and which row of a file has which.

Keys match as in SQL: a null matches nothing. The source is held in memory, and of a file only the
key columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from neuralake.delta.bounds import Statistics, partition_value
from neuralake.delta.column_mapping import Columns
from neuralake.errors import InvalidRows, UnknownName, UsageError, suggestion

__all__ = ["Keys"]


class Keys:
    """The columns `on` of `source`, which has the table's types; `columns` as of `Where`.

    Raises:
        UnknownName: the table has no such column.
        UsageError: the source lacks it, or values of its type are no keys.
        InvalidRows: two rows have the same key; with both, as `row` and `first`, and the `key`.
    """

    def __init__(
        self,
        source: pa.Table,
        on: Sequence[str],
        schema: pa.Schema,
        partition_by: tuple[str, ...],
        name: str,
        columns: Columns | None = None,
    ) -> None:
        _check(source, on, schema, name)
        self._schema, self._partition_by, self._names_in_log = schema, partition_by, columns
        self.on = tuple(on)
        self._source = _renamed(source, self.on).with_row_index("source")
        self._refuse_repeats()
        # Rows by the partition that they can be in, as far as the key tells.
        self._tells = tuple(column for column in self.on if column in partition_by)
        self._within: dict[tuple[str | None, ...], _Local] = {}

    def may_match(self, partition: Mapping[str, str | None], stats: str | None) -> bool:
        """Whether a file can have a row with one of the keys."""
        local = self._local(partition)
        if not local.rows.height:
            return False
        known = Statistics.of(stats, self._schema, self._names_in_log)
        return all(known.may_hold_one_of(column, values) for column, values in local.values.items())

    def match(self, rows: pa.Table, partition: Mapping[str, str | None]) -> pa.Array:
        """int64, for each of the `rows` of a file: the source row with its key, or null."""
        return self._local(partition).match(rows)

    def columns(self) -> list[str]:
        """The columns that `match` needs: keys that are in the files."""
        return [column for column in self.on if column not in self._partition_by]

    def _local(self, partition: Mapping[str, str | None]) -> _Local:
        key = tuple(partition[column] for column in self._tells)
        if key not in self._within:
            rows = self._source
            for column, text in zip(self._tells, key, strict=True):
                value = pl.Series(partition_value(text, self._schema.field(column)))
                place = pl.col(f"key{self.on.index(column)}")
                rows = rows.filter(place == pl.lit(value[0], dtype=value.dtype))  # Null: no row.
            self._within[key] = _Local(rows, self.on, self.columns(), self._schema)
        return self._within[key]

    def _refuse_repeats(self) -> None:
        places = [f"key{i}" for i in range(len(self.on))]
        keyed = self._source.drop_nulls(places)
        if keyed.n_unique(places) == keyed.height:
            return
        twice = keyed.filter(pl.struct(places).is_duplicated()).sort("source")
        first = twice.row(0, named=True)
        same = twice.join(twice.head(1), on=places, how="semi")["source"]
        key = {column: first[place] for column, place in zip(self.on, places, strict=True)}
        raise InvalidRows(
            f"Rows {same[0]} and {same[1]} have the same key "
            f"({', '.join(f'{column} = {value!r}' for column, value in key.items())}), so what "
            f"becomes of it is not clear. Keep one row for each key.",
            row=same[1],
            first=same[0],
            column=self.on[0],
            key=key,
            reason="the key is there twice",
        )


class _Local:
    """The part of the source that rows of some partition can match."""

    def __init__(
        self, rows: pl.DataFrame, on: tuple[str, ...], columns: list[str], schema: pa.Schema
    ) -> None:
        self._columns = columns
        self._places = [f"key{on.index(column)}" for column in columns]
        self.rows = rows.select("source", *self._places).drop_nulls()
        self.values: dict[str, list[Any]] = {}
        for column, place in zip(columns, self._places, strict=True):
            if _is_ordered(schema.field(column).type):
                self.values[column] = self.rows[place].unique().sort().to_list()

    def match(self, rows: pa.Table) -> pa.Array:
        if not self._places:  # All keys are partition columns: every row here has the one key.
            row = self.rows["source"].item() if self.rows.height else None
            return pa.repeat(pa.scalar(row, pa.int64()), rows.num_rows)
        frame = _renamed(rows.select(self._columns), tuple(self._columns), self._places)
        found = frame.join(self.rows, on=self._places, how="left", maintain_order="left")
        return found["source"].cast(pl.Int64).to_arrow()


def _check(source: pa.Table, on: Sequence[str], schema: pa.Schema, name: str) -> None:
    if not on:
        raise UsageError("merge needs on=[…]: the columns that tell which rows are the same.")
    for column in on:
        if column not in schema.names:
            raise UnknownName(
                f"{name!r} has no column {column!r} to merge on."
                f"{suggestion(str(column), schema.names)} Its columns: {', '.join(schema.names)}.",
                kind="column",
                name=column,
                known=schema.names,
            )
        if column not in source.schema.names:
            raise UsageError(
                f"merge on {column!r}: the rows have no such column. They have: "
                f"{', '.join(source.schema.names)}.",
                column=column,
            )
        kind = schema.field(column).type
        if pa.types.is_nested(kind):
            raise UsageError(
                f"merge on {column!r}: a column of type {kind} is no key.", column=column
            )


def _renamed(
    rows: pa.Table, columns: tuple[str, ...], places: Sequence[str] | None = None
) -> pl.DataFrame:
    """`columns` of `rows` as `key0`, …: whatever they are called, no name clashes."""
    names = places or [f"key{i}" for i in range(len(columns))]
    return pl.DataFrame(rows.select(list(columns)).rename_columns(list(names)))


def _is_ordered(kind: pa.DataType) -> bool:
    """Whether values compare with bounds of the statistics; floats have NaN, which does not."""
    return not (pa.types.is_floating(kind) or pa.types.is_binary(kind))
