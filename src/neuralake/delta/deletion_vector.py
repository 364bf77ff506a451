"""Deletion vectors: which rows of a data file are deleted, read from the log or from a file.

Sections "Deletion Vectors" and "Deletion Vector Format" of the Delta protocol. We write none. A
vector that is missing, damaged or of another format is an error, never "nothing is deleted": rows
that somebody deleted must not come back.
"""

from __future__ import annotations

import uuid
import zlib
from array import array
from urllib.parse import unquote

from pyroaring import BitMap64

from neuralake.delta.actions import DeletionVector
from neuralake.errors import NeedsAttention, UnsupportedFeature
from neuralake.storage import LogStore

__all__ = ["deleted_rows", "vector_file"]

_MAGIC = 1681511377
_UUID_LENGTH = 20
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_Z85_VALUES = {character: value for value, character in enumerate(_Z85)}


def deleted_rows(vector: DeletionVector, store: LogStore, *, path: str) -> array[int]:
    """Places of the deleted rows in the data file `path`, from 0, ascending.

    Raises:
        NeedsAttention: the vector is missing (`missing` is True) or damaged; with `path`.
        UnsupportedFeature: it is stored in a way that we do not read.
    """
    is_inline = vector.storage_type == "i"
    data = _inline(vector, path) if is_inline else _stored(vector, store, path)
    if int.from_bytes(data[:4], "little") != _MAGIC:
        raise UnsupportedFeature(
            f"The deletion vector of {path} has a format that we do not read.",
            features=["deletion vector format"],
            path=path,
        )
    try:
        found: array[int] = BitMap64.deserialize(data[4:]).to_array()
    except (ValueError, MemoryError) as error:
        raise _damaged(path, str(error)) from error
    if len(found) != vector.cardinality:
        raise _damaged(path, f"{len(found)} rows in it, {vector.cardinality} by the log")
    return found


def vector_file(vector: DeletionVector, store: LogStore) -> str | None:
    """Name in the store of the file that a vector is in; None: it is in the log.

    Raises UnsupportedFeature: the file is not below the table.
    """
    text = vector.path_or_inline_dv
    if vector.storage_type == "i":
        return None
    if vector.storage_type == "u":
        prefix, place = text[:-_UUID_LENGTH], _from_z85(text[-_UUID_LENGTH:])
        name = f"deletion_vector_{uuid.UUID(bytes=place)}.bin"
        return f"{prefix}/{name}" if prefix else name
    if vector.storage_type == "p":
        table, path = _plain(store.uri), _plain(unquote(text))
        if path.startswith(f"{table}/"):
            return path[len(table) + 1 :]
    raise UnsupportedFeature(
        f"A deletion vector of {store.uri} is stored as {vector.storage_type!r} at {text!r}, which "
        f"is not below the table: we do not read it.",
        features=["deletion vectors outside the table"],
    )


def _inline(vector: DeletionVector, path: str) -> bytes:
    try:
        data = _from_z85(vector.path_or_inline_dv)
    except (ValueError, KeyError) as error:
        raise _damaged(path, f"not Z85: {error}") from error
    # Z85 writes whole groups of four bytes.
    if not 0 <= len(data) - vector.size_in_bytes < 4:
        raise _damaged(path, f"{len(data)} bytes, {vector.size_in_bytes} by the log")
    return data[: vector.size_in_bytes]


def _stored(vector: DeletionVector, store: LogStore, path: str) -> bytes:
    try:
        name = vector_file(vector, store)
    except (ValueError, KeyError) as error:
        raise _damaged(path, f"its file's name is not Z85: {error}") from error
    assert name is not None  # noqa: S101 only inline vectors have no file; for mypy
    size = vector.size_in_bytes
    with store.open(name) as file:
        if file is None:
            raise NeedsAttention(
                f"File {name} of {store.uri} is missing: it says which rows of {path} are deleted.",
                path=path,
                missing=True,
            )
        version = file.read(1)
        file.seek(vector.offset or 0)
        found = file.read(4 + size + 4)
    if version != b"\x01":
        raise _damaged(path, f"{name} has format version {version.hex() or 'none'}")
    data = found[4 : 4 + size]
    if len(found) != size + 8 or int.from_bytes(found[:4], "big") != size:
        raise _damaged(path, f"{name} has no vector of {size} bytes at {vector.offset}")
    if zlib.crc32(data) != int.from_bytes(found[4 + size :], "big"):
        raise _damaged(path, f"the checksum in {name} is of other bytes")
    return data


def _from_z85(text: str) -> bytes:
    if len(text) % 5:
        raise ValueError(f"{len(text)} characters")
    data = bytearray()
    for start in range(0, len(text), 5):
        value = 0
        for character in text[start : start + 5]:
            value = value * 85 + _Z85_VALUES[character]
        if value >= 2**32:
            raise ValueError(f"{text[start : start + 5]!r} is too great")
        data += value.to_bytes(4, "big")
    return bytes(data)


def _plain(uri: str) -> str:
    """An address in the one spelling that two are compared in."""
    if uri.startswith("file:"):
        return "/" + uri.removeprefix("file:").lstrip("/")
    for scheme in ("s3a://", "s3n://"):
        if uri.startswith(scheme):
            return "s3://" + uri.removeprefix(scheme)
    return uri.rstrip("/")


def _damaged(path: str, what: str) -> NeedsAttention:
    return NeedsAttention(
        f"The deletion vector of {path} is damaged: {what}. Restore it from a backup; the file is "
        f"not read without it.",
        path=path,
        missing=False,
    )
