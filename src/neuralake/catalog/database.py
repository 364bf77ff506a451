"""A database: the table definitions of a module, found by name."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neuralake.errors import UnknownName, UsageError, suggestion
from neuralake.filters import normalise
from neuralake.frame import NlkDataFrame, scan_delta, scan_parquet
from neuralake.frame.frame import as_frame
from neuralake.table import (
    Definition,
    DeltaTable,
    FunctionTable,
    ParquetTable,
    PartitioningScheme,
)

if TYPE_CHECKING:
    from neuralake.catalog.catalog import Catalog

__all__ = ["Database", "ModuleDatabase"]


class _NoTable(UnknownName, AttributeError):
    """As an attribute that is not there, so that `hasattr` and completion ask without harm."""


class Database:
    """Tables by name. A table's name is its definition's, whatever variable holds it."""

    def __init__(self, tables: Mapping[str, Definition] | Iterable[Definition]) -> None:
        entries = tables.values() if isinstance(tables, Mapping) else tables
        self._tables: dict[str, Definition] = {}
        for entry in entries:
            self._add(entry)
        self._catalog: Catalog | None = None
        self._name = ""

    def tables(self, show_deprecated: bool = False) -> list[str]:
        """Names of the tables, sorted; deprecated ones only if asked."""
        return sorted(
            name
            for name, definition in self._tables.items()
            if show_deprecated or definition.deprecated is None
        )

    def get_tables(self, show_deprecated: bool = False) -> dict[str, Definition]:
        """Definitions by name, as `tables` lists them."""
        return {name: self._tables[name] for name in self.tables(show_deprecated)}

    def definition(self, name: str) -> Definition:
        """The definition of table `name`.

        Raises:
            UnknownName: there is none; the message lists what there is.
        """
        if name not in self._tables:
            known = self.tables(show_deprecated=True)
            raise _NoTable(
                f"No table {name!r} in database {self._name!r}.{suggestion(str(name), known)} "
                f"It has: {', '.join(known) or 'none'}.",
                kind="table",
                name=name,
                known=known,
            )
        return self._tables[name]

    def table(self, name: str, *filters: Any, live: bool = False, **arguments: Any) -> NlkDataFrame:
        """A lazy frame over table `name`; no I/O before it is collected."""
        return self._frame(name, filters, live, arguments, depth=3)

    def __getattr__(self, name: str) -> NlkDataFrame:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._frame(name, (), False, {}, depth=3)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tables()]

    def __repr__(self) -> str:
        return f"Database({self._name!r}: {', '.join(self.tables()) or 'no tables'})"

    def _add(self, entry: Any) -> None:
        if not isinstance(entry, Definition):
            raise UsageError(
                f"A database holds table definitions, found {type(entry).__name__} {entry!r}."
            )
        if self._tables.setdefault(entry.name, entry) is not entry:
            raise UsageError(f"Two tables are named {entry.name!r}.", name=entry.name)

    def _frame(
        self, name: str, filters: Any, live: bool, arguments: dict[str, Any], depth: int
    ) -> NlkDataFrame:
        definition = self.definition(name)
        if definition.deprecated is not None:
            warnings.warn(
                f"Table {name!r} is deprecated: {definition.deprecated}",
                DeprecationWarning,
                stacklevel=depth,
            )
        if isinstance(definition, FunctionTable):
            definition.check_arguments(arguments)
            return as_frame(definition.function(**arguments), name=name)
        catalog = self._catalog
        if catalog is None:
            raise UsageError(f"Database {self!r} belongs to no catalog: make a Catalog of it.")
        kept = normalise(*filters)
        uri = catalog.uri_of(definition)
        if live:
            return self._live(definition, uri, kept, catalog)
        if isinstance(definition, DeltaTable):
            return scan_delta(
                uri,
                definition.schema,
                definition.partition_by,
                kept,
                empty_if_missing=definition.is_stream,
                name=f"{self._name}.{name}",
            )
        if isinstance(definition, ParquetTable):
            return scan_parquet(
                uri,
                definition.schema,
                kept,
                partition_schema=definition.partition_schema,
                hive=definition.partitioning_scheme is PartitioningScheme.HIVE,
                name=f"{self._name}.{name}",
            )
        raise UsageError(f"Tables of kind {definition.kind!r} cannot be read.")

    def _live(self, definition: Definition, uri: str, kept: Any, catalog: Catalog) -> NlkDataFrame:
        if not definition.is_stream:
            raise UsageError(
                f"Table {definition.name!r} has no stream, so live=True means nothing; "
                f"define it with stream=Stream()."
            )
        live_frame = importlib.import_module("neuralake.live").live_frame
        topic = f"{self._name}.{definition.name}"
        frame: NlkDataFrame = live_frame(uri, definition.schema, catalog.queue(), topic, kept)
        return frame


class ModuleDatabase(Database):
    """The tables that a module defines or imports under a public name."""

    def __init__(self, module: ModuleType) -> None:
        if not isinstance(module, ModuleType):
            raise UsageError(f"ModuleDatabase takes a module, found {type(module).__name__}.")
        found = {
            id(value): value
            for name, value in vars(module).items()
            if isinstance(value, Definition) and not name.startswith("_")
        }
        super().__init__(found.values())
