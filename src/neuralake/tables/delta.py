"""A Delta table: the kind that can be streamed into, compacted, and read while it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from neuralake.schema import declare, may_partition
from neuralake.tables.definition import Definition

__all__ = ["REJECTED_SUFFIX", "REPLAYED_SUFFIX", "DeltaTable", "DeltalakeTable"]

REJECTED_SUFFIX = "_rejected"
REPLAYED_SUFFIX = "_replayed"
"""Of the addresses of two tables beside a stream: its dead letters, and those put in after all."""


@dataclass(frozen=True)
class DeltaTable(Definition):
    """A table in Delta Lake format, as `Definition` describes it.

    The schema has the types that Delta can hold exactly (`neuralake.schema.declare`), and a read
    gives exactly these columns. `stream` lets rows be ingested; the platform then creates the
    table, so a table that is not there yet reads as empty. `cluster_by` names columns that queries
    filter by: compaction sorts the rows of each file by them, instead of keeping the order in which
    rows came.
    """

    kind: ClassVar[str] = "delta"

    uri: str = field()
    schema: pa.Schema = field()
    cluster_by: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self, table_metadata_args: Mapping[str, Any] | None) -> None:
        if not isinstance(self.schema, pa.Schema):
            raise self._error(
                f"schema is a pyarrow.Schema, found {type(self.schema).__name__}.", field="schema"
            )
        self._set("schema", declare(self.schema))
        super().__post_init__(table_metadata_args)
        if not self.uri:
            raise self._error("uri is empty; write a path below the lake's root.", field="uri")
        self._check_partitions()
        self._set("cluster_by", self._columns("cluster_by"))
        self._check_clustering()
        if self.stream is not None:
            self.stream.check(self.schema)

    def _check_partitions(self) -> None:
        if len(self.partition_by) == len(self.schema):
            raise self._error(
                "every column is in partition_by; at least one must be in the files.",
                field="partition_by",
            )
        for name in self.partition_by:
            kind = self.schema.field(name).type
            if not may_partition(kind):
                raise self._error(
                    f"partition column {name!r} is {kind}; a folder's name holds texts, integers, "
                    f"booleans, dates and timestamps.",
                    field="partition_by",
                    column=name,
                )

    def _check_clustering(self) -> None:
        for name in self.cluster_by:
            if name in self.partition_by:
                raise self._error(
                    f"cluster_by names {name!r}, which is in partition_by: all rows of a file have "
                    f"the same value there.",
                    field="cluster_by",
                    column=name,
                )
            kind = self.schema.field(name).type
            if pa.types.is_nested(kind):
                raise self._error(
                    f"cluster_by names {name!r}, which is {kind}: lists and structs have no order.",
                    field="cluster_by",
                    column=name,
                )


DeltalakeTable = DeltaTable
"""datarepo's name of the same."""
