"""The catalog: databases by name, and what their tables share: settings and the queue."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neuralake.catalog.database import Database, ModuleDatabase, _NoTable
from neuralake.errors import UsageError, suggestion
from neuralake.settings import Settings, load_settings
from neuralake.storage import resolve
from neuralake.table import Definition
from neuralake.table.definition import NAME

if TYPE_CHECKING:
    from neuralake.queue import Queue

__all__ = ["Catalog"]


class Catalog:
    """Databases by name. Making one, and looking up in it, does no I/O.

    Args:
        databases: a `Database`, or a module of table definitions, by name.
        settings: default: those of the nearest `neuralake.toml`, loaded at first use.
    """

    def __init__(
        self, databases: Mapping[str, Database | ModuleType], settings: Settings | None = None
    ) -> None:
        self._settings = settings
        self._queue: Queue | None = None
        self._databases: dict[str, Database] = {}
        for name, given in databases.items():
            if not NAME.fullmatch(name):
                raise UsageError(f"Bad database name {name!r}.", name=name)
            database = ModuleDatabase(given) if isinstance(given, ModuleType) else given
            database._catalog, database._name = self, name
            self._databases[name] = database

    @property
    def settings(self) -> Settings:
        """Settings of the lake; loaded at first use if none were given."""
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    def dbs(self) -> list[str]:
        """Names of the databases, in the order of their definition."""
        return list(self._databases)

    def db(self, name: str) -> Database:
        """The database `name`; UnknownName lists what there is."""
        if name not in self._databases:
            raise _NoTable(
                f"No database {name!r}.{suggestion(str(name), self.dbs())} "
                f"The catalog has: {', '.join(self.dbs()) or 'none'}.",
                kind="database",
                name=name,
                known=self.dbs(),
            )
        return self._databases[name]

    def definition(self, database: str, table: str) -> Definition:
        """The definition of a table."""
        return self.db(database).definition(table)

    def definitions(self) -> list[tuple[str, Definition]]:
        """Every table with the name of its database, deprecated ones too."""
        return [
            (name, database.definition(table))
            for name, database in self._databases.items()
            for table in database.tables(show_deprecated=True)
        ]

    def uri_of(self, definition: Definition) -> str:
        """The absolute address of a table's files."""
        return resolve(self.settings.root, definition.uri)

    def queue(self) -> Queue:
        """The lake's queue; opened once, at the first call."""
        if self._queue is None:
            open_queue: Any = importlib.import_module("neuralake.queue").open_queue
            self._queue = open_queue(self.settings)
        return self._queue

    def __getattr__(self, name: str) -> Database:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.db(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.dbs()]

    def __repr__(self) -> str:
        return f"Catalog({', '.join(map(repr, self._databases.values()))})"
