"""That a stream table is fed by a Kafka topic which others produce to, and how to read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

import pyarrow as pa

from neuralake.errors import UsageError

__all__ = ["KAFKA_FORMATS", "KafkaTopic"]

KAFKA_FORMATS = ("json", "ndjson", "arrow", "avro", "protobuf")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MESSAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic of the cluster in `[kafka]` of `neuralake.toml`, from its beginning on.

    Messages without a value (tombstones) are passed over. What cannot be read goes to the dead
    letters of the table, and the partition goes on.

    Args:
        name: the topic's name in Kafka.
        format: what a message's value is: `json` (one object, or an array of them), `ndjson`
            (objects, one a line), `arrow` (an IPC stream), `avro` (with a schema registry's
            5 bytes before it), or `protobuf`.
        key: the column that takes the message's key: text or binary.
        timestamp: the column that takes the message's time.
        headers: the columns that take headers, by column: text or binary; of several headers of
            one name the last counts.
        message: of `protobuf`, the full name of the message: `lab.Spike`.
        descriptors: of `protobuf`, a file as `protoc --include_imports --descriptor_set_out` writes
            it, relative to the settings file's folder, read with the first message. Without it the
            schema registry gives what each message names, and messages must be framed.
        framed: of `protobuf` with `descriptors`: messages have a schema registry's frame (0, the
            schema's id, message indexes) before them. The id is not looked up.

    Raises:
        UsageError: a name or format that there is not, or arguments of another format.
    """

    name: str
    format: str = "json"
    _: KW_ONLY
    key: str | None = None
    timestamp: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    message: str | None = None
    descriptors: str | None = None
    framed: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(str(self.name)):
            raise UsageError(
                f"KafkaTopic({self.name!r}): a topic's name is 1 to 249 letters, digits, '.', '_' "
                f"and '-'.",
                name=self.name,
            )
        if self.format not in KAFKA_FORMATS:
            raise UsageError(
                f"KafkaTopic({self.name!r}): format is {self.format!r}; known: "
                f"{', '.join(KAFKA_FORMATS)}.",
                name=self.format,
                known=list(KAFKA_FORMATS),
            )
        if self.format == "protobuf":
            if not _MESSAGE.fullmatch(str(self.message or "")):
                raise UsageError(
                    f"KafkaTopic({self.name!r}): message is {self.message!r}; it must be the full "
                    f'name of a Protobuf message, as "lab.Spike".',
                    name=self.message,
                )
        elif self.message is not None or self.descriptors is not None or self.framed:
            raise UsageError(
                f"KafkaTopic({self.name!r}): message, descriptors and framed are for "
                f'format="protobuf", but it is {self.format!r}.',
                name=self.format,
            )

    @property
    def columns(self) -> list[str]:
        """Columns that are not in the value, but come with the message."""
        return [name for name in (self.key, self.timestamp, *self.headers) if name]

    def check(self, schema: pa.Schema) -> None:
        """Raise UsageError if a column is not in `schema`, twice the same, or of another type."""
        names = self.columns
        for name in names:
            if name not in schema.names or names.count(name) > 1:
                raise UsageError(
                    f"KafkaTopic({self.name!r}): {name!r} is not a column, or is named twice. "
                    f"Columns: {', '.join(schema.names)}.",
                    name=name,
                    known=list(schema.names),
                )
            kind, types = schema.field(name).type, pa.types
            fits = types.is_timestamp(kind) if name == self.timestamp else _is_text(kind)
            if not fits:
                wanted = "a timestamp" if name == self.timestamp else "text or binary"
                raise UsageError(
                    f"KafkaTopic({self.name!r}): column {name!r} is {kind}; it must be {wanted}.",
                    name=name,
                )
        if len(names) == len(schema):
            raise UsageError(f"KafkaTopic({self.name!r}): no column is left for the value.")


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )
