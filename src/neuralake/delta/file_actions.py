"""Which files a version has: entries on top of a checkpoint, by the protocol's reconciliation.

Section "Action Reconciliation": of the actions for one (path, deletion vector) the last one counts.
Work in Python is in proportion to the entries since the checkpoint; its own rows, of which there is
one per file of the table, are filtered as Arrow columns, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.delta.actions import Add
from neuralake.delta.checkpoint_read import Checkpoint
from neuralake.delta.checkpoint_schema import TYPES, from_json, optional

__all__ = ["FileActions"]

_KEY = ("path", "deletionVector")
_Key = tuple[str, str | None]


class _FileLine(msgspec.Struct):
    """The file actions of a line as they are stored, undecoded: every field stays."""

    add: msgspec.Raw = msgspec.Raw(b"null")
    remove: msgspec.Raw = msgspec.Raw(b"null")


class _Vector(msgspec.Struct, rename="camel"):
    storage_type: str
    path_or_inline_dv: str
    offset: int | None = None


class _LogicalFile(msgspec.Struct, rename="camel"):
    path: str
    deletion_vector: _Vector | None = None


_LINES = msgspec.json.Decoder(_FileLine)
_FILE = msgspec.json.Decoder(_LogicalFile)
_ADD = msgspec.json.Decoder(Add)
_ACTION = msgspec.json.Decoder(dict[str, Any])
_NULL = b"null"
_BATCH_ROWS = 16_384


class FileActions:
    """The file actions of a checkpoint (None: there is none) and of the `entries` after it."""

    def __init__(self, checkpoint: Checkpoint | None, entries: Sequence[bytes]) -> None:
        self._checkpoint = checkpoint
        self._adds: dict[_Key, msgspec.Raw] = {}
        self._removes: dict[_Key, msgspec.Raw] = {}
        for entry in entries:
            self._apply(_LINES.decode_lines(entry))
        names = {path for path, _ in (*self._adds, *self._removes)}
        self._names = pa.array(sorted(names), pa.string())

    def adds(self, fields: Sequence[str] | None = None) -> Iterator[pa.StructArray]:
        """The live files, as batches of `add` structs with `fields` (None: all)."""
        yield from self._of("add", self._adds, fields)

    def kept_adds(self, fields: Sequence[str]) -> Iterator[pa.StructArray]:
        """The live files that the checkpoint has, as batches of `add` structs with `fields`."""
        yield from self._of("add", {}, fields)

    def newer_adds(self) -> list[Add]:
        """The live files that came after the checkpoint."""
        return [_ADD.decode(action) for action in self._adds.values()]

    def removes(self, fields: Sequence[str] | None = None) -> Iterator[pa.StructArray]:
        """The tombstones, also expired ones, as batches of `remove` structs."""
        yield from self._of("remove", self._removes, fields)

    def _apply(self, lines: list[_FileLine]) -> None:
        # An entry may replace (path, one vector) by (path, another one); no key twice.
        for line in lines:
            if bytes(line.remove) != _NULL:
                key = _key(line.remove)
                self._adds.pop(key, None)
                self._removes[key] = line.remove
        for line in lines:
            if bytes(line.add) != _NULL:
                key = _key(line.add)
                self._removes.pop(key, None)
                self._adds[key] = line.add

    def _of(
        self, kind: str, newer: dict[_Key, msgspec.Raw], fields: Sequence[str] | None
    ) -> Iterator[pa.StructArray]:
        wanted = TYPES[kind] if fields is None else optional(TYPES[kind], fields)
        if self._checkpoint is not None:
            asked = None if fields is None else [*fields, *_KEY]
            for rows in self._checkpoint.rows(kind, asked):
                kept = self._untouched(rows)
                if len(kept):
                    yield _only(kept, wanted)
        actions = iter([*newer.values()])
        while batch := [_ACTION.decode(action) for action in islice(actions, _BATCH_ROWS)]:
            yield from_json(batch, wanted)

    def _untouched(self, rows: pa.StructArray) -> pa.StructArray:
        """The rows of the checkpoint that no later entry is about."""
        if not len(self._names):
            return rows
        paths = _decoded(rows.field("path"))
        hits = pc.is_in(paths, value_set=self._names)
        if not pc.any(hits).as_py():
            return rows
        places = pc.indices_nonzero(hits)
        vectors = rows.field("deletionVector").take(places).to_pylist()
        gone = [
            place
            for place, path, vector in zip(
                places.to_pylist(), paths.take(places).to_pylist(), vectors, strict=True
            )
            if (key := (path, _id_of(vector))) in self._adds or key in self._removes
        ]
        kept = pc.invert(
            pc.is_in(pa.array(range(len(rows)), pa.int64()), value_set=pa.array(gone, pa.int64()))
        )
        return rows.filter(kept)


def _id_of(vector: dict[str, Any] | None) -> str | None:
    if vector is None:
        return None
    return _vector_id(vector["storageType"], vector["pathOrInlineDv"], vector["offset"])


def _only(rows: pa.StructArray, kind: pa.StructType) -> pa.StructArray:
    if rows.type == kind:
        return rows
    return pa.StructArray.from_arrays([rows.field(field.name) for field in kind], fields=list(kind))


def _decoded(paths: pa.StringArray) -> pa.StringArray:
    if not pc.any(pc.match_substring(paths, "%")).as_py():
        return paths
    return pa.array([unquote(path) for path in paths.to_pylist()], pa.string())


def _key(action: msgspec.Raw) -> _Key:
    # Writers may encode the same path differently: it is a URL.
    file = _FILE.decode(action)
    vector = file.deletion_vector
    if vector is None:
        return unquote(file.path), None
    return unquote(file.path), _vector_id(
        vector.storage_type, vector.path_or_inline_dv, vector.offset
    )


def _vector_id(storage_type: str, path: str, offset: int | None) -> str:
    """Section "Derived Fields" of deletion vectors: their unique id."""
    return f"{storage_type}{path}" + ("" if offset is None else f"@{offset}")
