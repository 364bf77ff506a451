"""What a table demands of its writers, and whether we can give it.

Section "Table Features" of the Delta protocol. We write tables of the simplest protocol that their
types allow. A table of another writer may use more: we go on only if ignoring it is right (a
feature that is listed but not used), and otherwise name it and refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.delta.actions import MetaData, ProtocolAction
from neuralake.delta.partition import may_partition
from neuralake.delta.properties import Properties
from neuralake.delta.types import from_schema_string, has_timestamp_ntz
from neuralake.errors import UnsupportedFeature

__all__ = ["TableState", "protocol_for"]

_READER_FEATURES = {"timestampNtz"}
# Features whose use shows in the properties or the schema are checked there.
_WRITER_FEATURES = {
    "appendOnly",
    "changeDataFeed",  # Only updates and deletes write change files; we do neither.
    "checkConstraints",
    "generatedColumns",
    "identityColumns",
    "invariants",
    "timestampNtz",
}
_READER_VERSIONS = {1, 2, 3}
_WRITER_VERSIONS = range(1, 8)


@dataclass(frozen=True, slots=True)
class TableState:
    """Protocol and metadata of a table at some version, checked, with the schema decoded."""

    protocol: ProtocolAction
    metadata: MetaData
    schema: pa.Schema
    partition_by: tuple[str, ...]
    properties: Properties

    @classmethod
    def of(cls, protocol: ProtocolAction, metadata: MetaData) -> TableState:
        """The state, if we can write to such a table.

        Raises:
            UnsupportedFeature: with `features`, the names of what we do not implement.
            UsageError: a table property has a value that it cannot have.
        """
        _refuse(_missing(protocol, metadata))
        schema = from_schema_string(metadata.schema_string)
        partition_by = tuple(metadata.partition_columns)
        kinds = {name: schema.field(name).type for name in partition_by}
        _refuse(
            f"partition column {name!r} of type {kind}"
            for name, kind in kinds.items()
            if not may_partition(kind)
        )
        properties = Properties.of(metadata.configuration)
        return cls(protocol, metadata, schema, partition_by, properties)


def protocol_for(schema: pa.Schema) -> ProtocolAction:
    """The simplest protocol that allows the types of `schema`."""
    if not has_timestamp_ntz(schema):
        return ProtocolAction(min_reader_version=1, min_writer_version=2)
    return ProtocolAction(
        min_reader_version=3,
        min_writer_version=7,
        reader_features=["timestampNtz"],
        writer_features=["timestampNtz"],
    )


def _refuse(features: Iterable[str]) -> None:
    missing = list(dict.fromkeys(features))
    if missing:
        raise UnsupportedFeature(
            f"The table needs {', '.join(missing)}, which neuralake does not implement. "
            f"Write to it with the engine that turned this on, or turn it off there.",
            features=missing,
        )


def _missing(protocol: ProtocolAction, metadata: MetaData) -> list[str]:
    reader, writer = protocol.min_reader_version, protocol.min_writer_version
    missing = [] if reader in _READER_VERSIONS else [f"reader version {reader}"]
    missing += [] if writer in _WRITER_VERSIONS else [f"writer version {writer}"]
    missing += [name for name in protocol.reader_features or [] if name not in _READER_FEATURES]
    missing += [name for name in protocol.writer_features or [] if name not in _WRITER_FEATURES]
    for key, value in metadata.configuration.items():
        if key.startswith("delta.constraints."):
            missing.append("checkConstraints")
        if key == "delta.columnMapping.mode" and value != "none":
            missing.append("columnMapping")
    missing += _of_columns(msgspec.json.decode(metadata.schema_string)["fields"])
    return missing


def _of_columns(fields: list[dict[str, Any]]) -> list[str]:
    found = []
    for field in fields:
        for key in field.get("metadata") or {}:
            if key == "delta.invariants":
                found.append("invariants")
            elif key == "delta.generationExpression":
                found.append("generatedColumns")
            elif key.startswith("delta.identity."):
                found.append("identityColumns")
        kind = field["type"]
        while isinstance(kind, dict) and kind["type"] == "array":
            kind = kind["elementType"]
        if isinstance(kind, dict) and kind["type"] == "struct":
            found += _of_columns(kind["fields"])
    return found
