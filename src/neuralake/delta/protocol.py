"""What a table demands of those who write to it, and whether we can give it.

Section "Table Features" of the Delta protocol. We write tables of the simplest protocol that their
types and properties allow. A table of another writer may use more: we go on only if we do what a
feature asks, or if it is listed but not used; otherwise we name it and refuse. `docs/protocol.md`
says what each part of neuralake makes of each feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.delta.actions import MetaData, ProtocolAction
from neuralake.delta.column_mapping import Columns
from neuralake.delta.properties import Properties
from neuralake.delta.types import (
    from_schema_string,
    has_timestamp_ntz,
    readable_schema_string,
)
from neuralake.errors import UnsupportedFeature
from neuralake.schema import forbids_nulls, may_partition

__all__ = ["IMPLEMENTED", "REFUSED_IN_USE", "TableState", "protocol_for"]

_READER_WRITER = {"columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint"}
IMPLEMENTED = _READER_WRITER | {
    "appendOnly",
    "changeDataFeed",  # Appends and compaction need no change files; commit.py refuses the rest.
    "domainMetadata",
    "inCommitTimestamp",
}
"""Features of which we do what a writer must."""
REFUSED_IN_USE = {
    "allowColumnDefaults",
    "checkConstraints",
    "generatedColumns",
    "identityColumns",
    "invariants",
}
"""Features that may be listed. Their use shows in the properties or the schema, and is refused."""
# Those that a reader must know, or that only add types of columns, which then are left out.
_READABLE = _READER_WRITER | {
    "vacuumProtocolCheck",
    "variantShredding",
    "variantShredding-preview",
    "variantType",
    "variantType-preview",
}
_READER_VERSIONS = {1, 2, 3}
_WRITER_VERSIONS = range(1, 8)
# What a column's metadata shows, and the feature that it is of.
_OF_METADATA = {
    "CURRENT_DEFAULT": "allowColumnDefaults",
    "delta.generationExpression": "generatedColumns",
    "delta.invariants": "invariants",
}


@dataclass(frozen=True, slots=True)
class TableState:
    """Protocol and metadata of a table at some version, checked, with the schema decoded."""

    protocol: ProtocolAction
    metadata: MetaData
    schema: pa.Schema
    partition_by: tuple[str, ...]
    properties: Properties
    columns: Columns
    """What the columns are called inside the files and the log."""

    @classmethod
    def of(cls, protocol: ProtocolAction, metadata: MetaData) -> TableState:
        """The state, if we can write to such a table.

        Raises:
            UnsupportedFeature: with `features`, the names of what we do not implement.
            UsageError: a table property has a value that it cannot have.
            NeedsAttention: its metadata contradicts itself.
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
        return cls._of(protocol, metadata, schema, metadata.schema_string)

    @classmethod
    def to_read(cls, protocol: ProtocolAction, metadata: MetaData) -> TableState:
        """The state for who only reads: writers' features do not matter, nor columns of types that
        we do not know, which are left out.

        Raises:
            UnsupportedFeature: with `features`, what readers must implement and we do not.
            UsageError, NeedsAttention: as `of`.
        """
        reader = protocol.min_reader_version
        missing = [] if reader in _READER_VERSIONS else [f"reader version {reader}"]
        missing += [name for name in protocol.reader_features or [] if name not in _READABLE]
        _refuse(missing, verb="Read")
        text = readable_schema_string(metadata.schema_string)
        return cls._of(protocol, metadata, from_schema_string(text), text)

    @classmethod
    def _of(
        cls, protocol: ProtocolAction, metadata: MetaData, schema: pa.Schema, schema_string: str
    ) -> TableState:
        properties = Properties.of(metadata.configuration)
        mode = properties.column_mapping if _may_map(protocol) else "none"
        columns = Columns.of(mode, schema, schema_string)
        partition_by = tuple(metadata.partition_columns)
        return cls(protocol, metadata, schema, partition_by, properties, columns)


def protocol_for(
    schema: pa.Schema, configuration: Mapping[str, str] | None = None
) -> ProtocolAction:
    """The simplest protocol that allows the types of `schema` and these table properties."""
    properties = Properties.of(configuration or {})
    both = {
        "timestampNtz": has_timestamp_ntz(schema),
        "columnMapping": properties.column_mapping != "none",
        "deletionVectors": properties.deletion_vectors,
        "v2Checkpoint": properties.checkpoint_policy == "v2",
    }
    writers = {
        "changeDataFeed": properties.change_data_feed,
        "inCommitTimestamp": properties.in_commit_timestamps,
    }
    reader_features = sorted(name for name, used in both.items() if used)
    writer_features = [*reader_features, *sorted(name for name, used in writers.items() if used)]
    if not writer_features:
        return ProtocolAction(min_reader_version=1, min_writer_version=2)
    # Version 2 has these; version 7 must list them. Spark counts a column that may not be null as
    # an invariant, and does not even read a table that has one and does not list it.
    if properties.append_only:
        writer_features.append("appendOnly")
    if any(map(forbids_nulls, schema)):
        writer_features.append("invariants")
    return ProtocolAction(
        min_reader_version=3 if reader_features else 1,
        min_writer_version=7,
        reader_features=reader_features or None,
        writer_features=writer_features,
    )


def _refuse(features: Iterable[str], *, verb: str = "Write to") -> None:
    missing = list(dict.fromkeys(features))
    if missing:
        raise UnsupportedFeature(
            f"The table needs {', '.join(missing)}, which neuralake does not implement. {verb} "
            f"it with the engine that turned this on (delta-rs implements some: deltalake's "
            f"write_deltalake), or turn it off there.",
            features=missing,
        )


def _may_map(protocol: ProtocolAction) -> bool:
    """Whether the protocol lets the table's property turn column mapping on."""
    if protocol.min_reader_version == 3:
        return "columnMapping" in (protocol.reader_features or [])
    return protocol.min_reader_version == 2


def _missing(protocol: ProtocolAction, metadata: MetaData) -> list[str]:
    reader, writer = protocol.min_reader_version, protocol.min_writer_version
    missing = [] if reader in _READER_VERSIONS else [f"reader version {reader}"]
    missing += [] if writer in _WRITER_VERSIONS else [f"writer version {writer}"]
    missing += [name for name in protocol.reader_features or [] if name not in _READER_WRITER]
    known = IMPLEMENTED | REFUSED_IN_USE
    missing += [name for name in protocol.writer_features or [] if name not in known]
    if any(key.startswith("delta.constraints.") for key in metadata.configuration):
        missing.append("checkConstraints")
    missing += _of_columns(msgspec.json.decode(metadata.schema_string)["fields"])
    return missing


def _of_columns(fields: list[dict[str, Any]]) -> list[str]:
    found = []
    for field in fields:
        for key in field.get("metadata") or {}:
            if key in _OF_METADATA:
                found.append(_OF_METADATA[key])
            elif key.startswith("delta.identity."):
                found.append("identityColumns")
        kind = field["type"]
        while isinstance(kind, dict) and kind["type"] == "array":
            kind = kind["elementType"]
        if isinstance(kind, dict) and kind["type"] == "struct":
            found += _of_columns(kind["fields"])
    return found
