"""The catalog as plain data: definitions together with what the logs say about their tables."""

from neuralake.manifest.describe import describe
from neuralake.manifest.literals import python_literal, python_text, sql_name, sql_predicate
from neuralake.manifest.model import (
    FORMAT,
    Column,
    Condition,
    Database,
    Log,
    Manifest,
    Parameter,
    PartitionFacts,
    Statistics,
    StreamFacts,
    Table,
    from_json,
    to_json,
)

__all__ = [
    "FORMAT",
    "Column",
    "Condition",
    "Database",
    "Log",
    "Manifest",
    "Parameter",
    "PartitionFacts",
    "Statistics",
    "StreamFacts",
    "Table",
    "describe",
    "from_json",
    "python_literal",
    "python_text",
    "sql_name",
    "sql_predicate",
    "to_json",
]
