"""The catalog: databases by name, and what their tables share: settings, stores and the queue.

Making a catalog and looking up in it does no I/O: settings are loaded, and stores and the queue are
opened, when first needed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from neuralake.catalog.database import Database, ModuleDatabase, NoSuchName
from neuralake.errors import UsageError, suggestion
from neuralake.settings import Settings, find_settings_file, load_settings
from neuralake.storage import open_store, resolve
from neuralake.tables import Definition, KafkaTopic
from neuralake.tables.definition import check_name
from neuralake.telemetry import Telemetry

if TYPE_CHECKING:
    from neuralake.delta import Newest, Snapshot
    from neuralake.queue import Queue, QueueLimits
    from neuralake.storage import LogStore

__all__ = ["Catalog"]


class Catalog:
    """Databases by name, as in `Catalog({"neural": ModuleDatabase(tables)})`.

    Args:
        dbs: databases by name, each a `Database`, a module of table definitions, or a list of them.
        settings: default: those of the nearest `neuralake.toml` above the file that makes the
            catalog, else above the working directory; loaded when first needed.

    Raises:
        UsageError: a database's name needs quoting in SQL, a database has two tables of one name or
            belongs to two catalogs, or two streams would write into one place.
    """

    def __init__(
        self,
        dbs: Mapping[str, Database | ModuleType | Iterable[Definition]],
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings
        self.telemetry = Telemetry()
        """What the catalog's queue did in this process."""
        self._queue: Queue | None = None
        self._kafka: Queue | None = None
        self._stores: dict[str, LogStore] = {}
        self._newest: dict[str, Newest] = {}
        self._lock = threading.Lock()
        # The same catalog is then the same lake, whatever folder its user works in.
        self._made_in = Path(sys._getframe(1).f_code.co_filename).parent
        self._databases: dict[str, Database] = {}
        if not isinstance(dbs, Mapping):
            raise UsageError(
                f"A catalog is a dict of databases by name, such as "
                f"{{'lab': nl.ModuleDatabase(tables)}}; found {type(dbs).__name__}."
            )
        for name, given in dbs.items():
            check_name(name, "A database")
            self._databases[name] = _as_database(name, given)._join(self, name)
        self._refuse_shared_streams()

    @property
    def settings(self) -> Settings:
        """Settings of the lake.

        Raises:
            SettingsError: they were not given, and the file found is not right.
        """
        if self._settings is None:
            # Code without a file (a notebook, a shell) has no folder to start from.
            here = self._made_in if self._made_in.is_dir() else None
            self._settings = load_settings(find_settings_file(here))
        return self._settings

    def dbs(self) -> list[str]:
        """Names of the databases, in the order in which they were given."""
        return list(self._databases)

    def db(self, name: str) -> Database:
        """The database `name`.

        Raises:
            UnknownName: there is none; the message lists what there is.
        """
        if name not in self._databases:
            known = self.dbs()
            raise NoSuchName(
                f"No database {name!r} in the catalog.{suggestion(str(name), known)} "
                f"It has: {', '.join(known) or 'none'}.",
                kind="database",
                name=name,
                known=known,
            )
        return self._databases[name]

    def definition(self, database: str, table: str) -> Definition:
        """The definition of a table; UnknownName lists what there is."""
        return self.db(database).definition(table)

    def definitions(self) -> list[tuple[str, Definition]]:
        """Every table (deprecated ones too) behind the name of its database, sorted within it."""
        return [
            (name, definition)
            for name, database in self._databases.items()
            for definition in database.get_tables(show_deprecated=True).values()
        ]

    def uri_of(self, definition: Definition) -> str:
        """The absolute address of a table's files.

        Raises:
            UsageError: the table has no files (a function), or its URI leaves the lake's root.
        """
        if not definition.uri:
            raise UsageError(f"Table {definition.name!r} is a {definition.kind}: it has no files.")
        return resolve(self.settings.root, definition.uri)

    def store_of(self, definition: Definition) -> LogStore:
        """The store of a table's files, reached with the storage profile of its address.

        Raises:
            UsageError: the table has no files, no profile can reach them, or the environment
                contradicts the profile's coordination.
            MissingExtra: the store needs a library that is not installed.
        """
        return self.store_at(self.uri_of(definition))

    def store_at(self, uri: str) -> LogStore:
        """The store of the folder at `uri` (absolute), opened at the first call and then kept."""
        with self._lock:
            if uri not in self._stores:
                self._stores[uri] = open_store(uri, self.settings.profiles)
            return self._stores[uri]

    def newest_at(self, uri: str) -> Snapshot:
        """The Delta table at `uri` (absolute) as it is now, for reading; quick when asked again.

        Raises what `delta.snapshot` does.
        """
        from neuralake.delta import Newest

        store = self.store_at(uri)
        with self._lock:
            kept = self._newest.setdefault(uri, Newest(store))
        return kept.snapshot()

    def queue(self) -> Queue:
        """The lake's queue, opened at the first call and then kept."""
        from neuralake.queue import open_queue

        with self._lock:
            if self._queue is None:
                self._queue = open_queue(
                    self.settings, limits=self.queue_limits(), telemetry=self.telemetry
                )
            return self._queue

    def queue_limits(self) -> QueueLimits:
        """What the embedded queue keeps before senders are told to wait, in all and by topic."""
        from neuralake.queue import Amount, queue_limits

        queue = self.settings.queue
        topics = {
            f"{database}.{found.name}": Amount(
                found.stream.queue_bytes_max or queue.table_bytes_max,
                found.stream.queue_rows_max or queue.table_rows_max,
            )
            for database, found in self.definitions()
            if found.stream is not None
        }
        return queue_limits(self.settings, topics)

    def queue_of(self, definition: Definition) -> Queue:
        """The queue that the rows of a stream table travel on: the lake's, or others' topics.

        Raises:
            MissingExtra, SettingsError: it is fed by Kafka, which cannot be reached from here.
        """
        from neuralake.queue import open_kafka

        if definition.stream is None or definition.stream.kafka is None:
            return self.queue()
        with self._lock:
            if self._kafka is None:
                topics = self._kafka_topics()
                self._kafka = open_kafka(
                    self.settings,
                    {name: topic.name for name, topic in topics.items()},
                    values_only=[name for name, topic in topics.items() if not topic.columns],
                )
            return self._kafka

    def close(self) -> None:
        """Close the queues that were opened: what was submitted is stored first."""
        with self._lock:
            opened = [queue for queue in (self._queue, self._kafka) if queue is not None]
        for queue in opened:
            queue.close()

    def _kafka_topics(self) -> dict[str, KafkaTopic]:
        return {
            f"{database}.{found.name}": found.stream.kafka
            for database, found in self.definitions()
            if found.stream is not None and found.stream.kafka is not None
        }

    def bound_to(self, settings: Settings) -> Catalog:
        """This catalog under `settings`: itself if it had none or the same, else a copy.

        A copy has its own queue handle; the definitions are shared.
        """
        if self._settings is None:
            self._settings = settings
        if self._settings == settings:
            return self
        copies = {
            name: Database(database.get_tables(show_deprecated=True))
            for name, database in self._databases.items()
        }
        return Catalog(copies, settings)

    def __getattr__(self, name: str) -> Database:
        if name.startswith("_"):  # Python's own questions (copy, pickle, notebooks) are none of it.
            raise AttributeError(name)
        return self.db(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.dbs()]

    def __repr__(self) -> str:
        lines = [f"  {name}: {', '.join(db.tables()) or '-'}" for name, db in self._items()]
        return "\n".join(["Catalog", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(', '.join(db.tables()))}</td></tr>"
            for name, db in self._items()
        )
        return f"<table><caption>Catalog</caption>{rows}</table>"

    def _items(self) -> list[tuple[str, Database]]:
        return list(self._databases.items())

    def _refuse_shared_streams(self) -> None:
        # Two streams in one place would be compacted and vacuumed twice, under two topics.
        taken: dict[str, str] = {}
        for database, definition in self.definitions():
            here = f"{database}.{definition.name}"
            if definition.is_stream and (other := taken.setdefault(definition.uri, here)) != here:
                raise UsageError(
                    f"{other!r} and {here!r} are both streams at {definition.uri!r}; a place has "
                    f"one stream. Import the table into one database only, or give it a uri of "
                    f"its own.",
                    uri=definition.uri,
                )


def _as_database(name: str, given: object) -> Database:
    if isinstance(given, Database):
        return given
    if isinstance(given, ModuleType):
        return ModuleDatabase(given)
    if isinstance(given, (list, tuple, Mapping)):
        return Database(given)
    raise UsageError(
        f"Database {name!r} is {type(given).__name__}; give a ModuleDatabase, a module, or a list "
        f"of table definitions.",
        name=name,
    )
