"""A DataFusion session for one query: the catalog's tables by name, opened only when named.

Names and declared schemas are known without I/O, so SHOW TABLES and `information_schema` open
nothing. A table that the query names is opened once, while it is planned: a query sees one version
of each table. A stream table that nobody has written yet is empty. A live query sees stream tables
with what their queue holds behind that version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

import pyarrow as pa
from datafusion import DataFrame, RuntimeEnvBuilder, SessionConfig, SessionContext
from datafusion.catalog import CatalogProvider, SchemaProvider, Table

from neuralake import delta
from neuralake.delta import Snapshot
from neuralake.errors import UnknownName, suggestion
from neuralake.live import existing, together
from neuralake.queue import QueueReader
from neuralake.queue.topic import topic_of
from neuralake.records.envelopes import EnvelopeReader
from neuralake.schema import conform
from neuralake.serve.files import parquet_dataset
from neuralake.serve.messages import Source
from neuralake.serve.prune import Scans, scan_filters
from neuralake.serve.remote import Reach
from neuralake.serve.tables import (
    Opened,
    delta_table,
    joined_table,
    parquet_table,
    rows_table,
    stand_in,
)
from neuralake.storage import LogStore, is_local, open_store

__all__ = ["CATALOG", "Session"]

CATALOG = "neuralake"
# A share for the pool that operators ask for memory; the rest of the process's limit is for what
# they take without asking (decoded pages, expressions, the answer).
_POOL_SHARE = 0.5
_PARTITIONS = 2
# Of the process's limit, what the tail of a live table may take.
_TAIL_SHARE = 0.25

Rows = Callable[[str, str], pa.Table]
"""Rows of a function table, by database and name."""


class _Stage(Enum):
    LIST = 1
    SCOUT = 2
    PLAN = 3


class Session:
    """`context` plans and runs one query; `versions` fills while it is planned."""

    def __init__(
        self,
        databases: Mapping[str, Mapping[str, Source]],
        *,
        function_rows: Rows,
        queue_of: Callable[[str, str], QueueReader] | None = None,
        store_at: Callable[[str], LogStore] = open_store,
        newest_at: Callable[[str], Snapshot] | None = None,
        conceal: Callable[[str], str] = str,
        memory_bytes_max: int,
        spill_folder: Path,
    ) -> None:
        self.databases = databases
        self.conceal = conceal
        self.versions: dict[str, int] = {}
        self.failure: Exception | None = None
        self._function_rows, self._store_at = function_rows, store_at
        self._queue_of = queue_of
        self._tail_bytes_max = int(memory_bytes_max * _TAIL_SHARE)
        self._newest_at = newest_at
        self._stage = _Stage.LIST
        self._opened: dict[str, Opened] = {}
        self._chosen: dict[str, Table] = {}
        self._default = next(iter(databases)) if len(databases) == 1 else "public"
        config = (
            SessionConfig()
            .with_create_default_catalog_and_schema(False)
            .with_default_catalog_and_schema(CATALOG, self._default)
            .with_information_schema(True)
            .with_target_partitions(_PARTITIONS)
            # Spark's timestamps; as nanoseconds they would end in the year 2262.
            .set("datafusion.execution.parquet.coerce_int96", "us")
        )
        runtime = (
            RuntimeEnvBuilder()
            .with_fair_spill_pool(int(memory_bytes_max * _POOL_SHARE))
            .with_temp_file_path(str(spill_folder))
        )
        self.context = SessionContext(config, runtime)
        self._reach = Reach(self.context)
        # It would tell where on this machine the files are.
        self.context.deregister_udf("input_file_name")
        self.context.register_catalog_provider(CATALOG, _Databases(self))

    def plan(self, plan: Callable[[SessionContext], DataFrame]) -> DataFrame:
        """What `plan` gives over the real tables, each with only the files that it can need."""
        self._stage = _Stage.SCOUT
        scouted = plan(self.context)
        if self._opened:
            self._choose(scan_filters(scouted, self._default))
            self._stage = _Stage.PLAN
            scouted = plan(self.context)
        # Names asked for from now on (by `information_schema`) are only listed, not read.
        self._stage = _Stage.LIST
        return scouted

    def _choose(self, scans: dict[str, Scans] | None) -> None:
        # Not when the planner asks: within its call the engine does not take another one.
        for key, opened in self._opened.items():
            own = None if scans is None else scans.get(key)
            self._chosen[key] = opened.table(self.context, own)

    def table(self, database: str, name: str) -> Table | None:
        """The table for the planner; None (and `failure` says why) if there is none."""
        try:
            source = self._source(database, name)
            if self._stage is _Stage.LIST:
                return stand_in(_schema(source.schema))
            return self._table(database, name, source)
        except Exception as error:  # noqa: BLE001 the engine would keep only its text
            self.failure = error
            return None

    def _source(self, database: str, name: str) -> Source:
        tables = self.databases[database]
        if name not in tables:
            known = sorted(tables)
            raise UnknownName(
                f"No table {name!r} in database {database!r}.{suggestion(name, known)} "
                f"It has: {', '.join(known)}.",
                kind="table",
                name=name,
                known=known,
            )
        return tables[name]

    def _table(self, database: str, name: str, source: Source) -> Table:
        key = f"{database}.{name}"
        if key not in self._opened:
            self._opened[key] = self._open(database, name, source)
        if self._stage is _Stage.SCOUT:
            return stand_in(self._opened[key].schema)
        return self._chosen[key]

    def _open(self, database: str, name: str, source: Source) -> Opened:
        if source.kind == "parquet":
            dataset, store = parquet_dataset(source, self._store_at)
            partition_by = _schema(source.partition_schema).names
            address = None if store is None else self._reach.address(store)
            return parquet_table(dataset, partition_by, address)
        if source.kind != "delta":
            return rows_table(self._function_rows(database, name))
        snapshot, tail = self._read(database, name, source)
        if snapshot is None:
            return rows_table(tail)
        self.versions[f"{database}.{name}"] = snapshot.version
        store = self._store_at(source.uri)
        address = None if is_local(source.uri) else self._reach.address(store)
        committed = delta_table(snapshot, store.uri, address=address)
        if not tail.num_rows:
            return committed
        # Equal but for the order of columns, or a nullable column that the table has not yet.
        return joined_table(committed, conform(tail, snapshot.schema, name=f"{database}.{name}"))

    def _read(self, database: str, name: str, source: Source) -> tuple[Snapshot | None, pa.Table]:
        """The newest version of a Delta table, and of a live one what is not in it yet."""
        schema = _schema(source.schema)

        def take() -> Snapshot | None:
            found = existing(lambda: self._newest(source.uri))
            if found is None and not source.is_stream:
                raise UnknownName(
                    f"Table {database}.{name} is defined, but no Delta table is there. Is its uri "
                    f"right?",
                    kind="table",
                    name=f"{database}.{name}",
                    known=[],
                )
            return found

        if self._queue_of is None or not source.is_stream:
            return take(), schema.empty_table()
        return together(
            self._queue_of(database, name),
            topic_of(database, name),
            schema,
            take,
            # Of tables that take new columns, rows come with those that the table has.
            reader=EnvelopeReader(schema, evolves=True),
            grown=True,
            bytes_max=self._tail_bytes_max,
        )

    def _newest(self, uri: str) -> Snapshot:
        if self._newest_at is not None:
            return self._newest_at(uri)
        return delta.snapshot(self._store_at(uri), to_read=True)


class _Databases(CatalogProvider):
    def __init__(self, session: Session) -> None:
        self._session = session

    def schema_names(self) -> set[str]:
        return set(self._session.databases)

    # The engine takes a provider of ours as well as its own; the base class knows only the latter.
    def schema(self, name: str) -> _Database | None:  # type: ignore[override]  # see above
        if name in self._session.databases:
            return _Database(self._session, name)
        if name not in ("information_schema", "public"):
            known = sorted(self._session.databases)
            self._session.failure = UnknownName(
                f"No database {name!r}.{suggestion(name, known)} There are: "
                f"{', '.join(known) or 'none'}.",
                kind="database",
                name=name,
                known=known,
            )
        return None


class _Database(SchemaProvider):
    # The binding of release 55 reads both as attributes, although the base class has methods.
    owner_name = None  # type: ignore[assignment]  # see above

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._name = session, name

    @property
    def table_names(self) -> list[str]:  # type: ignore[override]  # see above
        return sorted(self._session.databases[self._name])

    def table_exist(self, name: str) -> bool:
        return name in self._session.databases[self._name]

    def table(self, name: str) -> Table | None:
        return self._session.table(self._name, name)


def _schema(declared: bytes | None) -> pa.Schema:
    return pa.schema([]) if declared is None else pa.ipc.read_schema(pa.py_buffer(declared))
