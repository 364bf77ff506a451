"""The actions of a Delta log entry that we read and write, and their NDJSON form.

One line is one action, an object with one key ("Actions" in the Delta protocol). Fields that we do
not name are ignored when read, as the protocol asks of readers; the table's features decide
elsewhere (`protocol.py`) whether ignoring them is safe for a writer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from neuralake.errors import NeedsAttention

__all__ = [
    "Action",
    "Add",
    "ChangeFile",
    "CommitInfo",
    "DeletionVector",
    "DomainMetadata",
    "Format",
    "Line",
    "MetaData",
    "ProtocolAction",
    "Remove",
    "TxnAction",
    "damaged",
    "decode_entry",
    "encode_entry",
]


class _Action(msgspec.Struct, rename="camel", frozen=True):
    pass


class Format(_Action, frozen=True, kw_only=True):
    provider: str = "parquet"
    options: dict[str, str] = {}


class ProtocolAction(_Action, frozen=True, kw_only=True, omit_defaults=True):
    """Section "Protocol Evolution": what a reader and a writer of the table must know."""

    min_reader_version: int
    min_writer_version: int
    reader_features: list[str] | None = None
    writer_features: list[str] | None = None


class MetaData(_Action, frozen=True, kw_only=True):
    """Section "Change Metadata": schema, partitioning and properties of the table."""

    id: str
    name: str | None = None
    description: str | None = None
    format: Format = Format()
    schema_string: str
    partition_columns: list[str]
    configuration: dict[str, str] = {}
    created_time: int | None = None


class DeletionVector(_Action, frozen=True, kw_only=True, omit_defaults=True):
    """Section "Deletion Vectors": which rows of a file are deleted, by their place in it."""

    storage_type: str
    """`u`: a file named by a UUID below the table, `p`: an absolute path, `i`: inline."""
    path_or_inline_dv: str
    offset: int | None = None
    size_in_bytes: int
    cardinality: int
    """How many rows are deleted."""

    @property
    def unique_id(self) -> str:
        """Tells the vectors of one data file apart."""
        place = "" if self.offset is None else f"@{self.offset}"
        return f"{self.storage_type}{self.path_or_inline_dv}{place}"


class Add(_Action, frozen=True, kw_only=True, omit_defaults=True):
    """Section "Add File": `path` is relative and URL-encoded; times are Unix milliseconds."""

    path: str
    partition_values: dict[str, str | None]
    size: int
    modification_time: int
    data_change: bool
    stats: str | None = None
    tags: dict[str, str | None] | None = None
    deletion_vector: DeletionVector | None = None


class Remove(_Action, frozen=True, kw_only=True, omit_defaults=True):
    """Section "Remove File": the tombstone that keeps the file for readers until vacuum."""

    path: str
    deletion_timestamp: int | None = None
    data_change: bool
    extended_file_metadata: bool | None = None
    partition_values: dict[str, str | None] | None = None
    size: int | None = None
    deletion_vector: DeletionVector | None = None


class TxnAction(_Action, frozen=True, kw_only=True):
    """Section "Transaction Identifiers": the newest `version` of `app_id` in the log counts."""

    app_id: str
    version: int
    last_updated: int | None = None


class DomainMetadata(_Action, frozen=True, kw_only=True):
    """Section "Domain Metadata": what a feature, or a user, keeps with the table."""

    domain: str
    configuration: str
    removed: bool


class ChangeFile(_Action, frozen=True, kw_only=True):
    """Section "Add CDC File": rows that a commit changed. We never write one."""

    path: str


class CommitInfo(_Action, frozen=True, kw_only=True, omit_defaults=True):
    """Section "Commit Provenance Information". `txn_id` is the id of a commit of ours."""

    in_commit_timestamp: int | None = None
    """Section "In-Commit Timestamps", Unix milliseconds; strictly grows with the versions."""
    timestamp: int | None = None
    operation: str | None = None
    operation_parameters: dict[str, Any] | None = None
    read_version: int | None = None
    is_blind_append: bool | None = None
    operation_metrics: dict[str, Any] | None = None
    engine_info: str | None = None
    txn_id: str | None = None


class Line(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """One line of a log entry; one field is set, or none for an action that we do not know."""

    protocol: ProtocolAction | None = None
    meta_data: MetaData | None = None
    add: Add | None = None
    remove: Remove | None = None
    txn: TxnAction | None = None
    commit_info: CommitInfo | None = None
    domain_metadata: DomainMetadata | None = None
    cdc: ChangeFile | None = None


Action = ProtocolAction | MetaData | Add | Remove | TxnAction | CommitInfo | DomainMetadata

_KEYS: dict[type, str] = {
    ProtocolAction: "protocol",
    MetaData: "metaData",
    Add: "add",
    Remove: "remove",
    TxnAction: "txn",
    CommitInfo: "commitInfo",
    DomainMetadata: "domainMetadata",
}
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Line)


def encode_entry(actions: Iterable[Action]) -> bytes:
    """The bytes of a log entry, one action a line, in the given order."""
    return _ENCODER.encode_lines([{_KEYS[type(action)]: action} for action in actions])


def decode_entry(data: bytes, *, version: int, uri: str) -> list[Line]:
    """The lines of log entry `version` of the table at `uri`.

    Raises:
        NeedsAttention: the entry is damaged. Going on without it could double or lose rows.
    """
    try:
        lines = _DECODER.decode_lines(data)
    except msgspec.DecodeError as error:
        raise damaged(uri, version, str(error)) from error
    if not lines:
        # Of a writer that does not sync: the file outlived a power loss, its content did not.
        raise damaged(uri, version, "it is empty")
    return lines


def damaged(uri: str, version: int, reason: str) -> NeedsAttention:
    """The error for a log entry that cannot be read."""
    return NeedsAttention(
        f"Log entry {version} of {uri} cannot be read: {reason}. Restore it from a backup; "
        f"no commit is made on top of it.",
        uri=uri,
        version=version,
    )
