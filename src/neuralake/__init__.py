"""neuralake: define a table once in Python, and everything else follows from it.

The names below load on first use, so that `import neuralake` costs milliseconds and no server
library is loaded by a program that only reads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralake.catalog import Catalog as Catalog
    from neuralake.catalog import Database as Database
    from neuralake.catalog import ModuleDatabase as ModuleDatabase
    from neuralake.catalog import load_catalog as load_catalog
    from neuralake.errors import NeuralakeError as NeuralakeError
    from neuralake.filters import Filter as Filter
    from neuralake.frame import NlkDataFrame as NlkDataFrame
    from neuralake.frame import concat as concat
    from neuralake.settings import Settings as Settings
    from neuralake.settings import load_settings as load_settings
    from neuralake.supervise import Platform as Platform
    from neuralake.tables import DeltalakeTable as DeltalakeTable
    from neuralake.tables import DeltaTable as DeltaTable
    from neuralake.tables import FunctionTable as FunctionTable
    from neuralake.tables import KafkaTopic as KafkaTopic
    from neuralake.tables import ParquetTable as ParquetTable
    from neuralake.tables import Partition as Partition
    from neuralake.tables import PartitioningScheme as PartitioningScheme
    from neuralake.tables import Stream as Stream
    from neuralake.tables import table as table

__version__ = "0.1.0"

_HOMES = {
    "Catalog": "catalog",
    "Database": "catalog",
    "DeltaTable": "tables",
    "DeltalakeTable": "tables",
    "Filter": "filters",
    "FunctionTable": "tables",
    "KafkaTopic": "tables",
    "ModuleDatabase": "catalog",
    "NeuralakeError": "errors",
    "NlkDataFrame": "frame",
    "ParquetTable": "tables",
    "Partition": "tables",
    "PartitioningScheme": "tables",
    "Platform": "supervise",
    "Settings": "settings",
    "Stream": "tables",
    "concat": "frame",
    "load_catalog": "catalog",
    "load_settings": "settings",
    "table": "tables",
}

__all__ = [
    "Catalog",
    "Database",
    "DeltaTable",
    "DeltalakeTable",
    "Filter",
    "FunctionTable",
    "KafkaTopic",
    "ModuleDatabase",
    "NeuralakeError",
    "NlkDataFrame",
    "ParquetTable",
    "Partition",
    "PartitioningScheme",
    "Platform",
    "Settings",
    "Stream",
    "concat",
    "load_catalog",
    "load_settings",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
