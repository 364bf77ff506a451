"""Create a table: log entry 0, which one of any number of callers writes.

A table that is already there with the same columns and partitioning is left alone, so creating is
safe to repeat, also at once from many processes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import pyarrow as pa

from neuralake import __version__
from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import CommitInfo, MetaData, encode_entry
from neuralake.delta.column_mapping import MAX_ID, assigned
from neuralake.delta.coordination import check_coordination, recorded
from neuralake.delta.log import entry_name, has_log
from neuralake.delta.partition import check_partitioning
from neuralake.delta.properties import Properties
from neuralake.delta.protocol import TableState, protocol_for
from neuralake.delta.replay import replay
from neuralake.delta.types import to_schema_string
from neuralake.errors import SchemaMismatch
from neuralake.schema import declare
from neuralake.storage import AlreadyThere, LogStore, as_store

__all__ = ["ENGINE", "create_table"]

ENGINE = f"neuralake/{__version__}"


def create_table(
    at: str | LogStore,
    schema: pa.Schema,
    *,
    partition_by: Sequence[str] = (),
    description: str = "",
    properties: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    may_have_more: bool = False,
) -> int:
    """Make an empty table at `at` unless it is there; return its version.

    Args:
        at: an absolute folder, or the store of the table.
        schema: declared with `neuralake.schema.declare`, which is applied once more.
        properties: Delta table properties, such as `delta.appendOnly`.
        may_have_more: a table that is there may have more columns, which are nullable.

    Raises:
        UsageError: a column cannot be stored, or cannot be a partition column.
        SchemaMismatch: another table is there; names the `column` that differs.
        UsageError: its writers agree on the next entry in another way than the store does.
        Unavailable: the store cannot be written to; nothing was made.
    """
    schema = declare(schema)
    check_partitioning(schema, partition_by)
    store, clock = as_store(at), clock or SystemClock()
    now_ms = int(clock.now_s() * 1000)
    configuration = {**recorded(store), **(properties or {})}
    schema_string = to_schema_string(schema)
    if Properties.of(configuration).column_mapping != "none":
        schema_string, highest = assigned(schema_string)
        configuration[MAX_ID] = str(highest)
    metadata = MetaData(
        id=str(uuid.uuid4()),
        description=description or None,
        schema_string=schema_string,
        partition_columns=list(partition_by),
        configuration=configuration,
        created_time=now_ms,
    )
    check_coordination(metadata.configuration, store)
    # Also checks the properties: what we could not write to later is not made at all.
    state = TableState.of(protocol_for(schema, configuration), metadata)
    if has_log(store):
        return _same(store, schema, tuple(partition_by), may_have_more=may_have_more)
    info = CommitInfo(
        in_commit_timestamp=now_ms if state.properties.in_commit_timestamps else None,
        timestamp=now_ms,
        operation="CREATE TABLE",
        operation_parameters={"mode": "ErrorIfExists"},
        engine_info=ENGINE,
        txn_id=uuid.uuid4().hex,
    )
    try:
        store.put_if_absent(entry_name(0), encode_entry([info, state.protocol, metadata]))
    except AlreadyThere:
        store.settle()
        return _same(store, schema, tuple(partition_by), may_have_more=may_have_more)
    return 0


def _same(
    store: LogStore, schema: pa.Schema, partition_by: tuple[str, ...], *, may_have_more: bool
) -> int:
    """The version of the table at `uri`, if its columns and partitioning are these."""
    log = replay(store)
    check_coordination(log.metadata.configuration, store)
    found = TableState.of(log.protocol, log.metadata)
    columns = found.schema
    if may_have_more:
        columns = pa.schema(
            [each for each in columns if each.name in schema.names or not each.nullable]
        )
    for name in [*schema.names, *columns.names]:
        asked, there = _told(schema, name), _told(columns, name)
        if asked != there:
            raise SchemaMismatch(
                f"The table at {store.uri} exists with other columns: {name!r} is {there} there, "
                f"and {asked} in the definition.",
                column=name,
                found=there,
                asked=asked,
            )
    if schema.names != columns.names or partition_by != found.partition_by:
        raise SchemaMismatch(
            f"The table at {store.uri} exists with the columns {found.schema.names} partitioned by "
            f"{list(found.partition_by)}, but the definition has {schema.names} partitioned by "
            f"{list(partition_by)}.",
            column=next(iter(partition_by or found.partition_by or schema.names)),
        )
    return log.version


def _told(schema: pa.Schema, name: str) -> str:
    """The type of a column in words, or that there is none."""
    if name not in schema.names:
        return "absent"
    field = schema.field(name)
    return f"{field.type}" if field.nullable else f"{field.type}, not nullable,"
