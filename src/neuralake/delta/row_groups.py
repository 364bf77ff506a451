"""Join Parquet files by copying their row groups: no page is decoded, only the footer is new.

Most of what compaction rewrites was compressed well the first time. Copying its column chunks costs
a read and a write of the bytes, a tenth of decoding and encoding them. It is done only where a
reader could not tell the difference: the same schema and the same writer (whose name decides how
readers take a footer's statistics), nothing encrypted, every chunk inside its file. Page indexes
and Bloom filters stay behind: they lie outside the chunks, and readers do without.

Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from neuralake.delta.thrift import I64, LIST, STRUCT, Struct, decode, encode
from neuralake.storage import Sink

__all__ = ["Footer", "Joiner", "extent", "read_footer"]

_MAGIC = b"PAR1"
_COPY_BYTES = 4 * 1024 * 1024
# FileMetaData
_SCHEMA, _ROWS, _GROUPS, _KEYS, _CREATED_BY, _ORDERS, _ENCRYPTION = 2, 3, 4, 5, 6, 7, 8
_KINSHIP = (1, _SCHEMA, _CREATED_BY, _ORDERS)
# RowGroup
_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _ORDINAL = 1, 3, 5, 7
# ColumnChunk
_FILE_PATH, _CHUNK_OFFSET, _META, _INDEXES, _CRYPTO = 1, 2, 3, (4, 5, 6, 7), (8, 9)
# ColumnMetaData
_PLAIN, _COMPRESSED, _DATA, _INDEX_PAGE, _DICTIONARY, _BLOOM = 6, 7, 9, 10, 11, (14, 15)


class Footer:
    """What the end of a Parquet file says: its row groups, and where their bytes are."""

    def __init__(self, tree: Struct, file_bytes: int) -> None:
        self.tree = tree
        self.groups: list[Struct] = tree[_GROUPS][1][1]
        self.rows: int = tree[_ROWS][1]
        self.file_bytes = file_bytes

    def is_kin(self, other: Footer) -> bool:
        """Whether row groups of both files may stand in one file."""
        return all(self.tree.get(field) == other.tree.get(field) for field in _KINSHIP)

    @property
    def group_bytes_mean(self) -> float:
        """Mean compressed size of a row group; 0 if there is none."""
        sizes = [chunk[_META][1][_COMPRESSED][1] for chunk in self._chunks()]
        return sum(sizes) / len(self.groups) if self.groups else 0.0

    @property
    def plain_bytes(self) -> int:
        """Size of all its column chunks before they were compressed."""
        return sum(chunk[_META][1][_PLAIN][1] for chunk in self._chunks())

    def is_copyable(self) -> bool:
        """Whether its chunks can be lifted out: in this file, in one piece, readable by all."""
        if _ENCRYPTION in self.tree:
            return False
        for chunk in self._chunks():
            if _FILE_PATH in chunk or any(field in chunk for field in _CRYPTO):
                return False
            start, size = extent(chunk)
            if start < len(_MAGIC) or size < 0 or start + size > self.file_bytes:
                return False
        return True

    def _chunks(self) -> Iterator[Struct]:
        for group in self.groups:
            yield from group[_COLUMNS][1][1]


def read_footer(file: BinaryIO) -> Footer | None:
    """The footer of a Parquet file; None if it has none that we understand."""
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
        tree = decode(tail[-8 - length : -8])
        footer = Footer(tree, size)
        # Touch every field that we rely on.
        footer.is_copyable()
        _ = footer.plain_bytes
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return footer


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
        for group in footer.groups:
            self._groups.append(self._copied(group, file))
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
        tree[_ROWS] = (I64, self.rows)
        tree[_GROUPS] = (LIST, (STRUCT, self._groups))
        footer = encode(tree)
        self._write(footer + len(footer).to_bytes(4, "little") + _MAGIC)

    def _copied(self, group: Struct, file: BinaryIO) -> Struct:
        kind, chunks = group[_COLUMNS][1]
        moved = {field: group[field] for field in group if field not in (_GROUP_OFFSET, _ORDINAL)}
        moved[_GROUP_OFFSET] = (I64, self._at)
        moved[_COLUMNS] = (LIST, (kind, [self._chunk(chunk, file) for chunk in chunks]))
        return moved

    def _chunk(self, chunk: Struct, file: BinaryIO) -> Struct:
        start, size = extent(chunk)
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
            for field, value in chunk[_META][1].items()
            if field not in (_INDEX_PAGE, *_BLOOM)
        }
        for field in (_DATA, _DICTIONARY):
            if field in meta and meta[field][1] > 0:
                meta[field] = (I64, meta[field][1] + shift)
        moved: Struct = {field: chunk[field] for field in chunk if field not in _INDEXES}
        # Where the chunk's metadata lies if it is repeated in the file; 0 if it is not.
        moved[_CHUNK_OFFSET] = (I64, 0)
        moved[_META] = (STRUCT, meta)
        return moved

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._at += len(data)


def extent(chunk: Struct) -> tuple[int, int]:
    """Offset and size of a column chunk's bytes."""
    meta: dict[int, Any] = chunk[_META][1]
    starts = [meta[field][1] for field in (_DATA, _DICTIONARY) if field in meta]
    # Some writers put 0 where there is no dictionary.
    return min(start for start in starts if start > 0), meta[_COMPRESSED][1]
