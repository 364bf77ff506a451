"""Delta tables made by hand by the protocol, with features that no Python writer produces."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
from pyroaring import BitMap64

from neuralake.delta import TableLog
from neuralake.delta.actions import Action, Add, CommitInfo, DeletionVector, Remove, encode_entry
from neuralake.delta.log import entry_name
from neuralake.delta.snapshot import DataFile, snapshot
from neuralake.storage import LogStore, as_store

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
MAGIC = 1681511377


def put_entry(at: str | LogStore, version: int, actions: Iterable[Action]) -> None:
    """Commit `actions` as entry `version`, as another writer would."""
    as_store(at).put_if_absent(entry_name(version), encode_entry(actions))


def bitmap(rows: Iterable[int]) -> bytes:
    """A deletion vector's data: magic number, then the portable 64-bit format."""
    return struct.pack("<I", MAGIC) + bytes(BitMap64(rows).serialize())


def z85(data: bytes) -> str:
    padded = data + b"\0" * (-len(data) % 4)
    text = ""
    for (value,) in struct.iter_unpack(">I", padded):
        text += "".join(Z85[value // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return text


def inline_vector(rows: Sequence[int]) -> DeletionVector:
    data = bitmap(rows)
    return DeletionVector(
        storage_type="i",
        path_or_inline_dv=z85(data),
        size_in_bytes=len(data),
        cardinality=len(rows),
    )


def stored_vector(
    at: str, rows: Sequence[int], *, prefix: str = "", is_absolute: bool = False
) -> DeletionVector:
    """A vector in a file of its own, behind another one in the same file."""
    name = uuid.uuid4()
    other, data = bitmap([1, 2, 3]), bitmap(rows)
    file = b"\x01"
    for each in (other, data):
        offset = len(file)
        file += struct.pack(">I", len(each)) + each + struct.pack(">I", zlib.crc32(each))
    path = Path(at, prefix, f"deletion_vector_{name}.bin")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file)
    return DeletionVector(
        storage_type="p" if is_absolute else "u",
        path_or_inline_dv=path.as_uri() if is_absolute else prefix + z85(name.bytes),
        offset=offset,
        size_in_bytes=len(data),
        cardinality=len(rows),
    )


def delete_rows(at: str | LogStore, file: DataFile, vector: DeletionVector) -> int:
    """Commit the deletion of rows of `file` as engines with deletion vectors do."""
    found = snapshot(at)
    stats = msgspec.json.decode(file.stats or "{}") | {"tightBounds": False}
    partition = found.state.columns.partition_values(file.partition)
    now_ms = round(file.modified_s * 1000)
    put_entry(
        at,
        found.version + 1,
        [
            CommitInfo(timestamp=now_ms, operation="DELETE", engine_info="by hand"),
            Remove(
                path=file.path,
                deletion_timestamp=now_ms,
                data_change=True,
                extended_file_metadata=True,
                partition_values=partition,
                size=file.bytes,
                deletion_vector=file.deletion_vector,
            ),
            Add(
                path=file.path,
                partition_values=partition,
                size=file.bytes,
                modification_time=now_ms,
                data_change=True,
                stats=msgspec.json.encode(stats).decode(),
                deletion_vector=vector,
            ),
        ],
    )
    return found.version + 1


def read_all(at: str | LogStore) -> pa.Table:
    """Every row through `DataFiles.read`, with partition columns left out."""
    log, found = TableLog.open(at), snapshot(at)
    batches = [batch for file in found.files for batch in log.files.read(file)]
    return pa.concat_tables([log.files.schema.empty_table(), *batches])
