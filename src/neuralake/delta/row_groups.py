"""Join Parquet files by copying their row groups: no page is decoded, only the footer is new.

Most of what compaction rewrites was compressed well the first time. Copying its column chunks costs
a read and a write of the bytes, a tenth of decoding and encoding them. It is done only where a
reader could not tell the difference: the same schema and the same writer (whose name decides how
readers take a footer's statistics), nothing encrypted, every chunk inside its file. Page indexes
and Bloom filters stay behind: they lie outside the chunks, and readers do without. So do the keys
that writers note beside the schema, except Spark's, which tell it in which calendar dates are.

Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from neuralake.delta.chunk_meta import Chunk, ChunkForms, chunk_of
from neuralake.delta.old_calendar import SPARK_KEYS, is_of_old_calendar
from neuralake.delta.thrift import (
    BINARY,
    I64,
    LIST,
    STRUCT,
    Struct,
    decode,
    decode_fields,
    decode_rest,
    encode,
    field_header,
    integer_at,
    list_header,
)
from neuralake.storage import Sink

__all__ = ["Footer", "FooterReader", "Joiner", "read_footer"]

_MAGIC = b"PAR1"
_COPY_BYTES = 4 * 1024 * 1024
# FileMetaData
_SCHEMA, _ROWS, _GROUPS, _KEYS, _CREATED_BY, _ORDERS, _ENCRYPTION = 2, 3, 4, 5, 6, 7, 8
_KINSHIP = (1, _SCHEMA, _CREATED_BY, _ORDERS)
# KeyValue
_KEY, _VALUE = 1, 2
# RowGroup
_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _ORDINAL = 1, 3, 5, 7
# ColumnChunk
_CHUNK_OFFSET, _META, _INDEXES = 2, 3, (4, 5, 6, 7)
# ColumnMetaData
_DATA, _INDEX_PAGE, _DICTIONARY, _BLOOM = 9, 10, 11, (14, 15)

_ROWS_FOLLOW = field_header(I64, _ROWS, _SCHEMA)[0]
_ONE_GROUP_FOLLOWS = (
    field_header(LIST, _GROUPS, _ROWS) + list_header(STRUCT, 1) + field_header(LIST, _COLUMNS, 0)
)

_KINS_MAX = 4
_STRANGERS_MIN = 8
# What decoding raises where a footer is not what it says.
_DAMAGED = (ValueError, KeyError, TypeError, IndexError, AttributeError)


class Footer:
    """What the end of a Parquet file says: its row groups, and where their bytes are."""

    def __init__(
        self, tree: Struct, file_bytes: int, chunks: list[list[Chunk]] | None = None
    ) -> None:
        """
        Args:
            chunks: of each row group, if they are known; the tree need not have them then.

        Raises:
            KeyError, TypeError, IndexError, ValueError: it lacks what a footer has.
        """
        self.tree = tree
        if chunks is None:
            chunks = [[*map(chunk_of, group[_COLUMNS][1][1])] for group in tree[_GROUPS][1][1]]
        self.chunks = chunks
        """Of each row group."""
        self.rows: int = tree[_ROWS][1]
        self.file_bytes = file_bytes
        self.spark_keys: dict[bytes, bytes] = _spark_keys(tree)
        """What Spark noted, and needs to know the values."""
        plain = compressed = 0
        is_whole = _ENCRYPTION not in tree and not is_of_old_calendar(self.spark_keys)
        for group in chunks:
            for chunk in group:
                start, size = chunk.start, chunk.size_bytes
                plain += chunk.plain_bytes
                compressed += size
                if start < len(_MAGIC) or size < 0 or start + size > file_bytes:
                    is_whole = False
                is_whole = is_whole and chunk.manner.is_copyable
        self.plain_bytes = plain
        """Size of all its column chunks before they were compressed."""
        self._is_whole = is_whole
        self.group_bytes_mean = compressed / len(chunks) if chunks else 0.0
        """Mean compressed size of a row group; 0 if there is none."""

    @property
    def groups(self) -> list[Struct]:
        """The row groups, to be copied. Raises KeyError: it was read for merging."""
        groups: list[Struct] = self.tree[_GROUPS][1][1]
        return groups

    def is_kin(self, other: Footer) -> bool:
        """Whether row groups of both files may stand in one file."""
        return self.spark_keys == other.spark_keys and all(
            self.tree.get(field) == other.tree.get(field) for field in _KINSHIP
        )

    def is_copyable(self) -> bool:
        """Whether its chunks can be lifted out: in this file, in one piece, readable by all."""
        return self._is_whole


class FooterReader:
    """Reads the footers of files that are described alike: what they share is decoded once.

    They are for merging: where there is one row group, only its chunks are told.
    """

    def __init__(self) -> None:
        # The newest first: a table has one writer, or a few.
        self._kins: list[_Kin] = []
        self._strangers = 0

    def read(self, file: BinaryIO) -> Footer | None:
        """The footer of a Parquet file; None if it has none that we understand."""
        return _read(file, self._decoded)

    def _decoded(self, data: bytes, file_bytes: int) -> Footer:
        for kin in self._kins:
            if kin.has(data):
                try:
                    return kin.footer(data, file_bytes)
                except _DAMAGED:
                    return Footer(decode(data), file_bytes)
        tree = decode(data)
        self._strangers += 1
        # To learn it takes as long as to decode two: not of each, if none is like another.
        if len(self._kins) < _KINS_MAX or self._strangers % _STRANGERS_MIN == 0:
            learned = _Kin.of(tree, data)
            if learned is not None:
                self._kins = [learned, *self._kins][:_KINS_MAX]
        return Footer(tree, file_bytes)


@dataclass(frozen=True, slots=True)
class _Kin:
    """What footers share: the fields before and after the row groups, and their bytes."""

    head: bytes
    tail: bytes
    shared: Struct
    opening: bytes
    """What comes before the chunks of one row group."""
    leaves: tuple[ChunkForms, ...]

    @classmethod
    def of(cls, tree: Struct, data: bytes) -> _Kin | None:
        """Learn it of one; None if that is spelled otherwise than ours, or lacks something."""
        head = encode({field: tree[field] for field in tree if field <= _SCHEMA})[:-1]
        until = encode({field: tree[field] for field in tree if field <= _GROUPS})[:-1]
        if not {_SCHEMA, _GROUPS} <= tree.keys() or not data.startswith(until):
            return None
        if not tree[_GROUPS][1][1]:
            return None
        shared = {f: tree[f] for f in tree if f <= _SCHEMA or f > _GROUPS}
        leaves = len(tree[_GROUPS][1][1][0][_COLUMNS][1][1])
        opening = _ONE_GROUP_FOLLOWS + list_header(STRUCT, leaves)
        forms = tuple(ChunkForms() for _ in range(leaves))
        return cls(head, data[len(until) :], shared, opening, forms)

    def has(self, data: bytes) -> bool:
        """Whether a footer is of them: the same bytes after the same field are the same fields."""
        return data.startswith(self.head) and data.endswith(self.tail)

    def footer(self, data: bytes, file_bytes: int) -> Footer:
        """One of them. Raises one of `_DAMAGED`."""
        at, end = len(self.head), len(data) - len(self.tail)
        if data[at] == _ROWS_FOLLOW:
            rows, first = integer_at(data, at + 1)
            if data.startswith(self.opening, first):
                chunks = self._chunks(data, first + len(self.opening), end)
                return Footer({**self.shared, _ROWS: (I64, rows)}, file_bytes, [chunks])
        own, last = decode_fields(data, at, after=_SCHEMA, end=end)
        if last != _GROUPS:
            raise ValueError("Other fields are there.")
        return Footer({**self.shared, **own}, file_bytes)

    def _chunks(self, data: bytes, at: int, end: int) -> list[Chunk]:
        """Those of the only row group, the first of which is at `at`."""
        chunks = []
        for leaf in self.leaves:
            chunk, at = leaf.read(data, at)
            chunks.append(chunk)
        if decode_rest(data, at, after=_COLUMNS)[1] != end:
            raise ValueError("The row groups end elsewhere.")
        return chunks


def read_footer(file: BinaryIO) -> Footer | None:
    """The footer of a Parquet file; None if it has none that we understand."""
    return _read(file, lambda data, file_bytes: Footer(decode(data), file_bytes))


def _read(file: BinaryIO, decoded: Callable[[bytes, int], Footer]) -> Footer | None:
    size = file.seek(0, 2)
    if size < 12:
        return None
    # One request on a remote store brings nearly every footer.
    tail_bytes = min(size, 64 * 1024)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    length = int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != _MAGIC or length + 8 > size:
        return None
    if length + 8 > len(tail):
        file.seek(size - 8 - length)
        tail = file.read(length + 8)
    try:
        return decoded(tail[-8 - length : -8], size)
    except _DAMAGED:
        return None


class Joiner:
    """Writes one Parquet file to `sink` out of row groups of others, in the order of `add`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._at = sink.write(_MAGIC)
        self._first: Footer | None = None
        self._groups: list[Struct] = []
        self.rows = 0

    @property
    def size_bytes(self) -> int:
        """Written so far."""
        return self._at

    def add(self, footer: Footer, file: BinaryIO) -> None:
        """Copy all row groups of a file.

        Args:
            footer: of `file`; copyable, and of the same kinship as those added before.
        """
        self._first = self._first or footer
        for group, chunks in zip(footer.groups, footer.chunks, strict=True):
            self._groups.append(self._copied(group, chunks, file))
        self.rows += footer.rows

    def add_group(self, footer: Footer, group: Struct, chunks: Iterable[bytes], rows: int) -> None:
        """Write a row group that was made for the place `size_bytes`, of the kinship of `footer`.

        Args:
            chunks: its bytes, nothing left out between them.
        """
        self._first = self._first or footer
        for chunk in chunks:
            self._write(chunk)
        self._groups.append(group)
        self.rows += rows

    def close(self) -> None:
        """Write the footer; the file is complete then.

        Raises:
            ValueError: nothing was added.
        """
        if self._first is None:
            raise ValueError("A Parquet file needs a schema: nothing was added.")
        tree = {field: self._first.tree[field] for field in self._first.tree if field != _KEYS}
        if kept := self._first.spark_keys:
            pairs: list[Struct] = [
                {_KEY: (BINARY, key), _VALUE: (BINARY, value)} for key, value in kept.items()
            ]
            tree[_KEYS] = (LIST, (STRUCT, pairs))
        tree[_ROWS] = (I64, self.rows)
        tree[_GROUPS] = (LIST, (STRUCT, self._groups))
        footer = encode(tree)
        self._write(footer + len(footer).to_bytes(4, "little") + _MAGIC)

    def _copied(self, group: Struct, chunks: list[Chunk], file: BinaryIO) -> Struct:
        kind, columns = group[_COLUMNS][1]
        pairs = zip(columns, chunks, strict=True)
        moved = {field: group[field] for field in group if field not in (_GROUP_OFFSET, _ORDINAL)}
        moved[_GROUP_OFFSET] = (I64, self._at)
        moved[_COLUMNS] = (LIST, (kind, [self._chunk(*pair, file) for pair in pairs]))
        return moved

    def _chunk(self, column: Struct, chunk: Chunk, file: BinaryIO) -> Struct:
        start, size = chunk.start, chunk.size_bytes
        shift = self._at - start
        file.seek(start)
        while size:
            data = file.read(min(size, _COPY_BYTES))
            if not data:
                raise ValueError("The file ends inside a column chunk.")
            self._write(data)
            size -= len(data)
        meta: Struct = {
            field: value
            for field, value in column[_META][1].items()
            if field not in (_INDEX_PAGE, *_BLOOM)
        }
        for field in (_DATA, _DICTIONARY):
            if field in meta and meta[field][1] > 0:
                meta[field] = (I64, meta[field][1] + shift)
        moved: Struct = {field: column[field] for field in column if field not in _INDEXES}
        # Where the chunk's metadata lies if it is repeated in the file; 0 if it is not.
        moved[_CHUNK_OFFSET] = (I64, 0)
        moved[_META] = (STRUCT, meta)
        return moved

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._at += len(data)


def _spark_keys(tree: Struct) -> dict[bytes, bytes]:
    pairs: list[Struct] = tree[_KEYS][1][1] if _KEYS in tree else []
    found = [(pair[_KEY], pair.get(_VALUE, (BINARY, b""))) for pair in pairs]
    if any(kind != BINARY for pair in found for kind, _ in pair):
        raise TypeError("A key or its value is no text.")
    return {key: value for (_, key), (_, value) in found if key.startswith(SPARK_KEYS)}
