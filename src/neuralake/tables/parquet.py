"""Parquet files that somebody else writes: one file, a glob, or a tree of partition folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.tables.definition import Definition
from neuralake.tables.stream import Stream

__all__ = ["ParquetTable", "Partition", "PartitioningScheme"]


class PartitioningScheme(Enum):
    """How folder names give the values of partition columns."""

    DIRECTORY = 1
    """Values alone, one level per column: `5956/2024-03-24/`."""
    HIVE = 2
    """Names and values: `device=5956/date=2024-03-24/`."""


class Partition(NamedTuple):
    """A partition column and the Polars (or Arrow) type of its values."""

    column: str
    col_type: Any


@dataclass(frozen=True)
class ParquetTable(Definition):
    """Parquet files below `uri`, as `Definition` describes it; read only.

    Args:
        uri: a file, a folder (searched to its depth) or a glob such as `raw/*/part-*.parquet`.
        schema: optional; an Arrow schema, or Polars types by column. Declared, it is what a read
            gives, without a look into the files; partition columns may be left out of it.
        partitioning: partition columns from the outermost folder inwards.
        partitioning_scheme: how folders are named.
    """

    kind: ClassVar[str] = "parquet"

    uri: str = field()
    partitioning: Sequence[Partition] = field(default=(), kw_only=True)
    partitioning_scheme: PartitioningScheme = field(default=PartitioningScheme.HIVE, kw_only=True)
    partition_by: Sequence[str] = field(init=False, default=(), kw_only=True)
    stream: Stream | None = field(init=False, default=None, kw_only=True)

    def __post_init__(self, table_metadata_args: Mapping[str, Any] | None) -> None:
        if not isinstance(self.partitioning_scheme, PartitioningScheme):
            raise self._error(
                f"partitioning_scheme is PartitioningScheme.HIVE or .DIRECTORY, found "
                f"{self.partitioning_scheme!r}.",
                field="partitioning_scheme",
            )
        self._set("partitioning", tuple(map(self._partition, self.partitioning)))
        self._set("schema", self._declared())
        self._set("partition_by", tuple(partition.column for partition in self.partitioning))
        super().__post_init__(table_metadata_args)
        if not self.uri:
            raise self._error("uri is empty; write a path below the lake's root.", field="uri")

    @property
    def partition_schema(self) -> pa.Schema:
        """Names and types of the partition columns."""
        return pa.schema([(entry.column, entry.col_type) for entry in self.partitioning])

    def _partition(self, entry: Any) -> Partition:
        is_pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
        if not is_pair:
            raise self._error(f"partitioning is a list of Partition(column, type); {entry!r}.")
        return Partition(entry[0], _arrow_type(entry[1], entry[0]))

    def _declared(self) -> pa.Schema | None:
        if self.schema is None:
            return None
        schema = self.schema
        if isinstance(schema, Mapping):
            schema = pa.schema([(name, _arrow_type(kind, name)) for name, kind in schema.items()])
        if not isinstance(schema, pa.Schema) or len(schema) == 0:
            raise self._error(
                f"schema is a pyarrow.Schema or Polars types by column, found {self.schema!r}.",
                field="schema",
            )
        for partition in self.partitioning:
            if partition.column not in schema.names:
                schema = schema.append(pa.field(partition.column, partition.col_type))
        return schema.remove_metadata()


def _arrow_type(kind: Any, column: str) -> pa.DataType:
    if isinstance(kind, pa.DataType):
        return kind
    import polars as pl  # Not before it is needed: see `schema.py`.

    try:
        arrow = pl.DataFrame(schema={column: kind}).to_arrow().schema.field(0).type
    except Exception as error:
        # Polars raises its own and Python's errors alike for what is no type.
        raise UsageError(
            f"Column {column!r}: {kind!r} is no Polars or Arrow type.", column=column
        ) from error
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(arrow, arrow)
