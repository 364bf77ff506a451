"""neuralake: define a table once in Python, and everything else follows from it.

The names below load on first use, so that `import neuralake` costs milliseconds and no server
library is loaded by a program that only reads.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralake.catalog import Catalog as Catalog
    from neuralake.catalog import Database as Database
    from neuralake.catalog import ModuleDatabase as ModuleDatabase
    from neuralake.errors import NeuralakeError as NeuralakeError
    from neuralake.filters import Filter as Filter
    from neuralake.frame import NlkDataFrame as NlkDataFrame
    from neuralake.frame import concat as concat
    from neuralake.settings import Settings as Settings
    from neuralake.settings import load_settings as load_settings
    from neuralake.supervise import Platform as Platform
    from neuralake.table import DeltalakeTable as DeltalakeTable
    from neuralake.table import DeltaTable as DeltaTable
    from neuralake.table import ParquetTable as ParquetTable
    from neuralake.table import Partition as Partition
    from neuralake.table import PartitioningScheme as PartitioningScheme
    from neuralake.table import Stream as Stream
    from neuralake.table import table as table

__version__ = "0.1.0"

_HOMES = {
    "Catalog": "catalog",
    "Database": "catalog",
    "DeltaTable": "table",
    "DeltalakeTable": "table",
    "Filter": "filters",
    "ModuleDatabase": "catalog",
    "NeuralakeError": "errors",
    "NlkDataFrame": "frame",
    "ParquetTable": "table",
    "Partition": "table",
    "PartitioningScheme": "table",
    "Platform": "supervise",
    "Settings": "settings",
    "Stream": "table",
    "concat": "frame",
    "load_settings": "settings",
    "table": "table",
}

__all__ = [
    "Catalog",
    "Database",
    "DeltaTable",
    "DeltalakeTable",
    "Filter",
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
    "load_settings",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """This module, on which `table` is always the decorator.

    `table` is also a folder of the package, and Python puts every imported submodule on its parent,
    where the module would hide the decorator from `nl.table` as soon as any part is loaded.
    """

    @property
    def table(self) -> Any:
        return import_module("neuralake.table").table

    @table.setter
    def table(self, value: object) -> None:
        """Python sets the submodule here; it stays in `sys.modules`, and that is enough."""


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
