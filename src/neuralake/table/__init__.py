"""Definitions of tables: frozen data, checked when written down, no I/O.

`DeltaTable`, `ParquetTable` and functions under `@table` all are a `Definition`; the catalog, the
manifest, the site and the SQL gateway read nothing else about a table.
"""

from neuralake.table.definition import Definition, TableMetadata
from neuralake.table.delta import DeltalakeTable, DeltaTable
from neuralake.table.function import FunctionTable, table
from neuralake.table.parquet import ParquetTable, Partition, PartitioningScheme
from neuralake.table.stream import Stream

__all__ = [
    "Definition",
    "DeltaTable",
    "DeltalakeTable",
    "FunctionTable",
    "ParquetTable",
    "Partition",
    "PartitioningScheme",
    "Stream",
    "TableMetadata",
    "table",
]
