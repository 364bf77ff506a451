"""Describe a catalog: definitions as data, and beside them what their logs say.

One table at a time and none depends on another: what goes wrong with a table becomes its
`problem`, and the rest is described all the same. Functions under `@table` are never called.
"""

from __future__ import annotations

import ast
import inspect
from datetime import date
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from neuralake import __version__
from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.delta import Snapshot, exists, snapshot
from neuralake.delta.coordination import COORDINATION
from neuralake.errors import SchemaMismatch
from neuralake.filters import Filter
from neuralake.manifest.columns import example_row, partition_value, type_text
from neuralake.manifest.facts import (
    delta_log,
    delta_statistics,
    parquet_log,
    remote_parquet_log,
)
from neuralake.manifest.literals import python_literal, sql_predicate
from neuralake.manifest.model import (
    Column,
    Condition,
    Database,
    Kind,
    Log,
    Manifest,
    Parameter,
    Statistics,
    StreamFacts,
    Table,
)
from neuralake.manifest.shown import clean, problem_of, shown_uri
from neuralake.settings import WriterSettings
from neuralake.storage import is_local, local_path
from neuralake.tables import (
    Definition,
    DeltaTable,
    FunctionTable,
    ParquetTable,
    PartitioningScheme,
)
from neuralake.tables.parquet_files import list_parquet

__all__ = ["describe"]

_KINDS: dict[str, Kind] = {"delta": "delta", "parquet": "parquet", "function": "function"}


def describe(
    catalog: Catalog, *, clock: Clock | None = None, base_url: str | None = None
) -> Manifest:
    """The manifest of `catalog` now: one look at each table's log, no rows read.

    Args:
        base_url: address of the server in the examples; default: from the settings.
    """
    settings = catalog.settings
    server = settings.server
    if base_url is None:
        host = f"[{server.host}]" if ":" in server.host else server.host
        # Port 0 is picked at start; until somebody who knows it says so, show the usual one.
        base_url = f"http://{host}:{server.port or type(server)().port}"
    databases: dict[str, list[Table]] = {name: [] for name in catalog.dbs()}
    for name, definition in catalog.definitions():
        databases[name].append(clean(_described(catalog, name, definition)))
    return Manifest(
        title=settings.site.title,
        made_s=(clock or SystemClock()).now_s(),
        neuralake_version=__version__,
        catalog=settings.lake.catalog,
        base_url=base_url.rstrip("/"),
        databases=tuple(
            Database(name=name, tables=tuple(sorted(tables, key=_order)))
            for name, tables in databases.items()
        ),
    )


def _order(table: Table) -> tuple[bool, str]:
    return table.deprecated is not None, table.name


class _Data:
    """What a look at a table's data brought: all of it optional."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self.log: Log | None = None
        self.statistics: dict[str, Statistics] = {}
        self.coordination: str | None = None


def _described(catalog: Catalog, database: str, definition: Definition) -> Table:
    """The table, or no more than its name, docs and the reason why there is no more to say."""
    found: list[Table] = []
    problem = problem_of(
        lambda: found.append(_table(catalog, database, definition)),
        lambda: catalog.uri_of(definition),
        shown_uri(definition.uri),
    )
    if found:
        return found[0]
    return Table(
        database=database,
        name=definition.name,
        kind=_KINDS.get(definition.kind, "other"),
        description=definition.description,
        owner=definition.owner,
        tags=tuple(definition.tags),
        deprecated=definition.deprecated,
        problem=problem,
    )


def _table(catalog: Catalog, database: str, definition: Definition) -> Table:
    data = _Data()
    data.schema = definition.schema
    shown = shown_uri(definition.uri)
    problem = problem_of(
        lambda: _look(catalog, definition, data), lambda: catalog.uri_of(definition), shown
    )
    filters = list(definition.docs_filters) or _latest_partition(definition, data)
    known = {
        condition.column: condition.value for condition in filters if condition.operator == "="
    }
    is_stream = definition.is_stream and data.schema is not None
    return Table(
        database=database,
        name=definition.name,
        kind=_KINDS.get(definition.kind, "other"),
        description=definition.description,
        owner=definition.owner,
        tags=tuple(definition.tags),
        uri=shown or None,
        columns=_columns(definition, data),
        partition_by=tuple(definition.partition_by),
        parameters=_parameters(definition),
        stream=_stream(database, definition, catalog.settings.writer),
        data_input=definition.data_input,
        latency_info=definition.latency_info,
        example_notebook=definition.example_notebook,
        deprecated=definition.deprecated,
        docs_example=definition.docs_example,
        conditions=tuple(
            Condition(
                column=condition.column,
                operator=condition.operator,
                python=python_literal(condition.value),
                sql=sql_predicate(condition),
            )
            for condition in filters
        ),
        example_row=example_row(data.schema, known) if is_stream else None,
        coordination=data.coordination,
        log=data.log,
        problem=problem,
    )


def _look(catalog: Catalog, definition: Definition, data: _Data) -> None:
    """Fill `data` step by step, so that what was found before an error is kept."""
    if isinstance(definition, DeltaTable):
        store = catalog.store_of(definition)
        if definition.is_stream and not exists(store):
            # The platform makes it with the first start; until then it is empty, as it reads.
            data.log = Log(files=0, bytes=0, rows=0)
            return
        found = snapshot(store)
        data.coordination = found.state.metadata.configuration.get(COORDINATION)
        data.log = delta_log(found)
        _refuse_drift(definition, found)
        data.statistics = delta_statistics(found)
    elif isinstance(definition, ParquetTable):
        uri = catalog.uri_of(definition)
        is_hive = definition.partitioning_scheme is PartitioningScheme.HIVE
        if is_local(uri):
            data.log = parquet_log(local_path(uri), definition.partition_by, hive=is_hive)
        else:
            files = list_parquet(uri, catalog.store_at)
            data.log = remote_parquet_log(files, definition.partition_by, hive=is_hive)
        if data.schema is None:
            from neuralake.frame import scan_parquet  # With Polars, which nothing else here needs.

            frame = scan_parquet(
                uri,
                partition_schema=definition.partition_schema,
                hive=is_hive,
                store_at=catalog.store_at,
                name=definition.name,
            )
            data.schema = frame.collect_schema().to_arrow()


def _refuse_drift(definition: DeltaTable, found: Snapshot) -> None:
    for field in definition.schema:
        if field.name not in found.schema.names:
            raise SchemaMismatch(
                f"The table has no column {field.name!r}, which its definition declares.",
                column=field.name,
            )
        kind = found.schema.field(field.name).type
        if kind != field.type:
            raise SchemaMismatch(
                f"Column {field.name!r} of the table is {type_text(kind)}, but its definition "
                f"declares {type_text(field.type)}.",
                column=field.name,
            )


def _latest_partition(definition: Definition, data: _Data) -> list[Filter]:
    if data.log is None or data.schema is None or not data.log.partitions_latest:
        return []
    filters = []
    for name, text in zip(
        definition.partition_by, data.log.partitions_latest[0].values, strict=True
    ):
        try:
            filters.append(
                Filter(name, "is null")
                if text is None
                else Filter(name, "=", partition_value(text, data.schema.field(name).type))
            )
        except (KeyError, ValueError, ArithmeticError):
            return []  # A folder name that is no value of its column: show no example of it.
    return filters


def _columns(definition: Definition, data: _Data) -> tuple[Column, ...]:
    return tuple(
        Column(
            name=field.name,
            type=type_text(field.type),
            nullable=field.nullable,
            doc=definition.docs_columns.get(field.name, ""),
            is_partition=field.name in definition.partition_by,
            is_unique=field.name in definition.unique_columns,
            statistics=data.statistics.get(field.name),
        )
        for field in data.schema or ()
    )


def _parameters(definition: Definition) -> tuple[Parameter, ...]:
    if not isinstance(definition, FunctionTable):
        return ()
    return tuple(
        Parameter(
            name=parameter.name,
            type="" if parameter.annotation is parameter.empty else _annotation(parameter),
            default=None if parameter.default is parameter.empty else repr(parameter.default),
            example=_example_argument(definition, parameter.name),
        )
        for parameter in definition.signature.parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    )


def _annotation(parameter: inspect.Parameter) -> str:
    found: Any = parameter.annotation
    return found if isinstance(found, str) else inspect.formatannotation(found)


def _example_argument(definition: FunctionTable[..., Any], name: str) -> str | None:
    if name not in definition.docs_args:
        return None
    value = definition.docs_args[name]
    # A filter reads a date from text; a function wants the date.
    source = repr(value) if isinstance(value, date) else python_literal(value)
    try:
        ast.parse(source, mode="eval")
    except SyntaxError:
        return "..."  # A value without a source form, such as <object at 0x…>.
    return source


def _stream(database: str, definition: Definition, writer: WriterSettings) -> StreamFacts | None:
    stream = definition.stream
    if stream is None:
        return None
    return StreamFacts(
        path=f"/v1/{quote(database, safe='')}/{quote(definition.name, safe='')}",
        flush_ms_max=stream.flush_ms_max or writer.flush_ms_max,
        flush_rows_max=stream.flush_rows_max or writer.flush_rows_max,
        flush_bytes_max=stream.flush_bytes_max or writer.flush_bytes_max,
    )
