"""Actions as Arrow structs: the columns of a checkpoint, and rows of other writers brought to them.

Section "Checkpoint Schema" of the Delta protocol. A struct has every field that the protocol names
for its action, so what one writer put in stays in when another writes the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["TYPES", "fit", "from_json", "optional"]


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_TEXTS = pa.map_(pa.string(), pa.string())
_DELETION_VECTOR = pa.struct(
    [
        _required("storageType", pa.string()),
        _required("pathOrInlineDv", pa.string()),
        ("offset", pa.int32()),
        _required("sizeInBytes", pa.int32()),
        _required("cardinality", pa.int64()),
    ]
)

TYPES: dict[str, pa.StructType] = {
    "txn": pa.struct(
        [
            _required("appId", pa.string()),
            _required("version", pa.int64()),
            ("lastUpdated", pa.int64()),
        ]
    ),
    "add": pa.struct(
        [
            _required("path", pa.string()),
            _required("partitionValues", _TEXTS),
            _required("size", pa.int64()),
            _required("modificationTime", pa.int64()),
            _required("dataChange", pa.bool_()),
            ("stats", pa.string()),
            ("tags", _TEXTS),
            ("deletionVector", _DELETION_VECTOR),
            ("baseRowId", pa.int64()),
            ("defaultRowCommitVersion", pa.int64()),
            ("clusteringProvider", pa.string()),
        ]
    ),
    # Without `stats` and `tags`, which tombstones in checkpoints do not have (section
    # "Checkpoints").
    "remove": pa.struct(
        [
            _required("path", pa.string()),
            ("deletionTimestamp", pa.int64()),
            _required("dataChange", pa.bool_()),
            ("extendedFileMetadata", pa.bool_()),
            ("partitionValues", _TEXTS),
            ("size", pa.int64()),
            ("deletionVector", _DELETION_VECTOR),
            ("baseRowId", pa.int64()),
            ("defaultRowCommitVersion", pa.int64()),
        ]
    ),
    "metaData": pa.struct(
        [
            _required("id", pa.string()),
            ("name", pa.string()),
            ("description", pa.string()),
            _required(
                "format",
                pa.struct([_required("provider", pa.string()), _required("options", _TEXTS)]),
            ),
            _required("schemaString", pa.string()),
            _required("partitionColumns", pa.list_(pa.field("element", pa.string()))),
            ("createdTime", pa.int64()),
            _required("configuration", _TEXTS),
        ]
    ),
    "protocol": pa.struct(
        [
            _required("minReaderVersion", pa.int32()),
            _required("minWriterVersion", pa.int32()),
            ("readerFeatures", pa.list_(pa.field("element", pa.string()))),
            ("writerFeatures", pa.list_(pa.field("element", pa.string()))),
        ]
    ),
    "domainMetadata": pa.struct(
        [
            _required("domain", pa.string()),
            _required("configuration", pa.string()),
            _required("removed", pa.bool_()),
        ]
    ),
    "checkpointMetadata": pa.struct([_required("version", pa.int64()), ("tags", _TEXTS)]),
    "sidecar": pa.struct(
        [
            _required("path", pa.string()),
            _required("sizeInBytes", pa.int64()),
            _required("modificationTime", pa.int64()),
            ("tags", _TEXTS),
        ]
    ),
}


def optional(kind: pa.StructType, fields: Sequence[str]) -> pa.StructType:
    """`kind` with only `fields`, in its own order."""
    return pa.struct([field for field in kind if field.name in fields])


def fit(column: pa.Array, kind: pa.StructType) -> pa.StructArray:
    """The rows of `column` (structs of any writer) that are not null, as `kind`."""
    column = column.drop_null()
    there = {field.name: i for i, field in enumerate(column.type)}
    arrays = [
        _cast(column.field(there[field.name]), field.type)
        if field.name in there
        else pa.nulls(len(column), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def from_json(actions: Sequence[Mapping[str, Any]], kind: pa.StructType) -> pa.StructArray:
    """Actions as decoded from JSON, as `kind`; fields that it does not have are left out."""
    return pa.array([_plain(action, kind) for action in actions], kind)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if not pa.types.is_struct(kind):
        return column.cast(kind)
    fitted = fit(column, kind)
    if len(fitted) == len(column):
        return fitted
    # `fit` dropped the nulls: put them back.
    places = pa.array(range(len(fitted)), pa.int64())
    numbers = pc.replace_with_mask(pa.nulls(len(column), pa.int64()), column.is_valid(), places)
    return fitted.take(numbers)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """`value` as pyarrow takes it for `kind`: maps as pairs."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return list(value.items())
    if pa.types.is_struct(kind):
        return {field.name: _plain(value.get(field.name), field.type) for field in kind}
    return value
