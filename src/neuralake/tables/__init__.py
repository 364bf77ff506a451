"""Definitions of tables: frozen data, checked when written down, no I/O.

`DeltaTable`, `ParquetTable` and functions under `@table` all are a `Definition`; the catalog, the
manifest, the site and the SQL gateway read nothing else about a table.
"""

from neuralake.tables.definition import Definition, TableMetadata
from neuralake.tables.delta import (
    REJECTED_SUFFIX,
    REPLAYED_SUFFIX,
    DeltalakeTable,
    DeltaTable,
)
from neuralake.tables.function import FunctionTable, table
from neuralake.tables.kafka import KafkaTopic
from neuralake.tables.parquet import ParquetTable, Partition, PartitioningScheme
from neuralake.tables.stream import Stream

__all__ = [
    "REJECTED_SUFFIX",
    "REPLAYED_SUFFIX",
    "Definition",
    "DeltaTable",
    "DeltalakeTable",
    "FunctionTable",
    "KafkaTopic",
    "ParquetTable",
    "Partition",
    "PartitioningScheme",
    "Stream",
    "TableMetadata",
    "table",
]
