"""Add columns to a table: a change of its metadata alone; rows from before have null there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.delta.actions import CommitInfo, MetaData
from neuralake.delta.commit import TableLog
from neuralake.delta.conflicts import Footprint, Operation
from neuralake.delta.types import to_schema_string
from neuralake.errors import CommitConflict, UnsupportedFeature, UsageError
from neuralake.schema import declare

__all__ = ["add_columns", "with_columns"]

_TRIES = 20


def add_columns(log: TableLog, fields: Sequence[pa.Field]) -> int:
    """Add those of `fields` that the table lacks, behind its columns; return its version.

    Safe to repeat, and to do at once from many processes.

    Raises:
        UsageError: a field is not nullable.
        UnsupportedFeature: the table maps its columns to other names.
        CommitConflict: others changed the table again and again.
    """
    for left in reversed(range(_TRIES)):
        version = log.refresh()
        missing = [field for field in fields if field.name not in log.schema.names]
        if not missing:
            return version
        changed = with_columns(log, missing)
        info = CommitInfo(
            operation="ADD COLUMNS",
            operation_parameters={"columns": ", ".join(field.name for field in missing)},
        )
        try:
            log.commit(
                lambda _now_ms, changed=changed: [changed],  # type: ignore[misc]
                info,
                footprint=Footprint(Operation.SCHEMA_CHANGE, version=version),
            )
        except CommitConflict:
            if not left:
                raise
    return log.refresh()


def with_columns(log: TableLog, fields: Sequence[pa.Field]) -> MetaData:
    """The metadata of the table with `fields` behind its columns."""
    state = log.state
    if state.properties.column_mapping != "none":
        raise UnsupportedFeature(
            f"{log.store.uri} maps its columns to other names; add columns with the engine that "
            f"turned this on.",
            features=["columnMapping"],
        )
    for field in fields:
        if not field.nullable:
            raise UsageError(
                f"Column {field.name!r} cannot be added to {log.store.uri}: rows from before have "
                f"no value there, so it must be nullable.",
                column=field.name,
            )
    # Only text is joined: what other engines say of their columns stays as it is.
    found: dict[str, Any] = msgspec.json.decode(state.metadata.schema_string)
    added: dict[str, Any] = msgspec.json.decode(to_schema_string(declare(pa.schema(fields))))
    found["fields"] = [*found["fields"], *added["fields"]]
    return msgspec.structs.replace(
        state.metadata, schema_string=msgspec.json.encode(found).decode()
    )
