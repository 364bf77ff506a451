"""Column mapping: what the columns of a table are called inside its files and its log.

Section "Column Mapping" of the Delta protocol. With it a column has a physical name and an id for
life, and the name that people see is only a label. Rows pass through here on their way in and out;
data files, statistics and partition values know physical names only. Without it all names are the
same, and nothing here costs anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import NeedsAttention

__all__ = ["MAX_ID", "MODE", "Columns", "assigned", "field_id"]

MODE = "delta.columnMapping.mode"
MAX_ID = "delta.columnMapping.maxColumnId"
_ID = "delta.columnMapping.id"
_PHYSICAL = "delta.columnMapping.physicalName"
_PARQUET_ID = b"PARQUET:field_id"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, as people and as its files know them."""

    mode: str
    """`none`, `name` (files are read by physical names) or `id` (by field ids)."""
    logical: pa.Schema
    physical: pa.Schema
    """The same with physical names, and with Parquet field ids where the table has them."""

    @classmethod
    def of(cls, mode: str, logical: pa.Schema, schema_string: str) -> Columns:
        """Raises NeedsAttention: the table is mapped, but a column has no physical name or id."""
        if mode == "none":
            return cls(mode, logical, logical)
        fields = msgspec.json.decode(schema_string)["fields"]
        physical = [_physical(*pair) for pair in zip(logical, fields, strict=True)]
        return cls(mode, logical, pa.schema(physical))

    @property
    def by_id(self) -> bool:
        return self.mode == "id"

    def physical_name(self, name: str) -> str:
        """Of a column of the table (not of a field in one)."""
        found: str = self.physical.field(self.logical.get_field_index(name)).name
        return found

    def physical_path(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Of a column or of a field in one; None: there is none. Case does not count."""
        fields, found = [*zip(self.logical, self.physical, strict=True)], []
        for name in path:
            match = next((pair for pair in fields if pair[0].name.lower() == name.lower()), None)
            if match is None:
                return None
            found.append(match[1].name)
            is_struct = pa.types.is_struct(match[0].type)
            fields = [*zip(match[0].type, match[1].type, strict=True)] if is_struct else []
        return tuple(found)

    def part(self, names: list[str]) -> Columns:
        """Only the columns `names`."""
        places = [self.logical.get_field_index(name) for name in names]
        logical, physical = (
            pa.schema([schema.field(place) for place in places])
            for schema in (self.logical, self.physical)
        )
        return Columns(self.mode, logical, physical)

    def to_physical(self, rows: pa.Table) -> pa.Table:
        """`rows` with columns as `logical`, labelled as the files have them; copies nothing."""
        return rows if self.mode == "none" else _relabelled(rows, self.physical)

    def to_logical(self, rows: pa.Table) -> pa.Table:
        """`rows` with columns as `physical`, labelled for people; copies nothing."""
        return rows if self.mode == "none" else _relabelled(rows, self.logical)

    def partition_values(self, partition: Mapping[str, str | None]) -> dict[str, str | None]:
        """Values by column as the log keeps them: by physical name."""
        return {self.physical_name(name): value for name, value in partition.items()}


def field_id(field: pa.Field) -> int | None:
    """The Parquet field id of a column of a file; None: it has none."""
    text = (field.metadata or {}).get(_PARQUET_ID)
    return None if text is None else int(text)


def assigned(
    schema_string: str, name: Callable[[], str] = lambda: f"col-{uuid.uuid4()}"
) -> tuple[str, int]:
    """A new table's `schemaString` with an id and a physical name in every field; the highest id.

    `name` gives physical names that no other column ever had.
    """
    schema = msgspec.json.decode(schema_string)
    highest = _assign(schema, 0, name)
    return msgspec.json.encode(schema).decode(), highest


def _assign(kind: Any, highest: int, name: Callable[[], str]) -> int:
    if not isinstance(kind, dict):
        return highest
    if kind["type"] == "array":
        return _assign(kind["elementType"], highest, name)
    for field in kind["fields"]:
        highest += 1
        field["metadata"] |= {_ID: highest, _PHYSICAL: name()}
        highest = _assign(field["type"], highest, name)
    return highest


def _physical(field: pa.Field, declared: dict[str, Any]) -> pa.Field:
    """`field` as files have it; `declared` is its JSON in the table's schema."""
    metadata = declared.get("metadata") or {}
    if _PHYSICAL not in metadata or _ID not in metadata:
        raise NeedsAttention(
            f"The table maps its columns, but {field.name!r} has no physical name or no id. Repair "
            f"its metadata with the engine that turned column mapping on.",
            column=field.name,
        )
    return pa.field(
        metadata[_PHYSICAL],
        _physical_type(field.type, declared["type"]),
        nullable=field.nullable,
        metadata={_PARQUET_ID: str(metadata[_ID])},
    )


def _physical_type(kind: pa.DataType, declared: Any) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([_physical(*pair) for pair in zip(kind, declared["fields"], strict=True)])
    if pa.types.is_list(kind):
        item = kind.value_field
        return pa.list_(item.with_type(_physical_type(item.type, declared["elementType"])))
    return kind


def _relabelled(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.chunked_array([_relabel(chunk, field.type) for chunk in column.chunks], field.type)
        for column, field in zip(rows.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _relabel(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """`array` as `wanted`, which differs in the names of fields at most."""
    mask = array.is_null() if array.null_count else None
    if pa.types.is_struct(wanted):
        children = [_relabel(array.field(i), field.type) for i, field in enumerate(wanted)]
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=mask)
    if pa.types.is_list(wanted) and not wanted.equals(array.type, check_metadata=True):
        # From lengths and not from the offsets, which a mask does not go with in a slice.
        lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), 0)
        ends = pc.cumulative_sum(lengths).cast(pa.int32())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
        values = _relabel(array.flatten(), wanted.value_type)
        return pa.ListArray.from_arrays(offsets, values, type=wanted, mask=mask)
    return array
