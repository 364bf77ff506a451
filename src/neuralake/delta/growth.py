"""A table's metadata with more columns, and the record of when each came.

The record is a property of the table (`neuralake.columns`), so that it outlives the log's entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from neuralake.delta.actions import Action, MetaData
from neuralake.delta.protocol import TableState
from neuralake.delta.types import to_schema_string
from neuralake.errors import NeedsAttention, UnsupportedFeature, UsageError
from neuralake.schema import declare, forbids_nulls

__all__ = ["COLUMNS", "AddedColumn", "Growth", "added_columns"]

COLUMNS = "neuralake.columns"
"""The table property with the columns that were added, as JSON."""

# From this version on a table lists its features ("Table Features" of the Delta protocol).
_WRITER_OF_FEATURES = 7


class AddedColumn(msgspec.Struct, frozen=True):
    """A column that a table did not have when it was made."""

    name: str
    type: str
    version: int
    """Of the table, the first with it."""
    time_ms: int


def added_columns(metadata: MetaData) -> list[AddedColumn]:
    """The columns that were added to a table, in order.

    Raises:
        NeedsAttention: the property is damaged.
    """
    try:
        return msgspec.json.decode(
            metadata.configuration.get(COLUMNS, "[]"), type=list[AddedColumn]
        )
    except msgspec.MsgspecError as error:
        raise NeedsAttention(f"The table property {COLUMNS!r} is damaged: {error}.") from error


class Growth:
    """A table `before` and `after` those of `new` that it lacks are added behind its columns.

    Raises:
        UsageError: a field is not nullable.
        UnsupportedFeature: the table maps its columns to other names, or is of a protocol that does
            not have the type.
    """

    def __init__(self, before: TableState, new: Sequence[pa.Field], *, uri: str) -> None:
        self.before = self.after = before
        self._added = [field for field in new if field.name not in before.schema.names]
        if self._added:
            self.after = TableState.of(before.protocol, self._metadata(uri))

    def actions(self, version: int, now_ms: int) -> list[Action]:
        """What a commit of `version` at `now_ms` has to say of it; nothing if nothing is added."""
        if not self._added:
            return []
        metadata = self.after.metadata
        came = [AddedColumn(field.name, str(field.type), version, now_ms) for field in self._added]
        record = msgspec.json.encode([*added_columns(self.before.metadata), *came]).decode()
        configuration = {**metadata.configuration, COLUMNS: record}
        return [msgspec.structs.replace(metadata, configuration=configuration)]

    def _metadata(self, uri: str) -> MetaData:
        state = self.before
        if state.properties.column_mapping != "none":
            raise UnsupportedFeature(
                f"{uri} maps its columns to other names; add columns with the engine that turned "
                f"this on.",
                features=["columnMapping"],
            )
        for field in self._added:
            if not field.nullable:
                raise UsageError(
                    f"Column {field.name!r} cannot be added to {uri}: rows from before have no "
                    f"value there, so it must be nullable.",
                    column=field.name,
                )
            protocol = state.protocol
            if (
                protocol.min_writer_version >= _WRITER_OF_FEATURES
                and "invariants" not in (protocol.writer_features or ())
                and forbids_nulls(field)
            ):
                raise UnsupportedFeature(
                    f"Column {field.name!r} cannot be added to {uri}: a field in it must have a "
                    f"value, for which the table lacks the writer feature `invariants`, and Spark "
                    f"would not read it. Make the field nullable.",
                    features=["invariants"],
                )
            if field.type == pa.timestamp("us"):
                raise UnsupportedFeature(
                    f"Column {field.name!r} cannot be added to {uri}: a timestamp without a zone "
                    f"needs a newer protocol.",
                    features=["timestampNtz"],
                )
        # Only text is joined: what other engines say of their columns stays as it is.
        found: dict[str, Any] = msgspec.json.decode(state.metadata.schema_string)
        text = to_schema_string(declare(pa.schema(self._added)))
        found["fields"] = [*found["fields"], *msgspec.json.decode(text)["fields"]]
        return msgspec.structs.replace(
            state.metadata, schema_string=msgspec.json.encode(found).decode()
        )
