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

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from neuralake.delta.old_calendar import SPARK_KEYS, is_of_old_calendar
from neuralake.delta.thrift import BINARY, I64, LIST, STRUCT, Struct, decode, decode_fields, encode
from neuralake.storage import Sink

__all__ = ["Footer", "FooterReader", "Joiner", "extent", "read_footer"]

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
_FILE_PATH, _CHUNK_OFFSET, _META, _INDEXES, _CRYPTO = 1, 2, 3, (4, 5, 6, 7), (8, 9)
# ColumnMetaData
_PLAIN, _COMPRESSED, _DATA, _INDEX_PAGE, _DICTIONARY, _BLOOM = 6, 7, 9, 10, 11, (14, 15)

_NOT_COPYABLE = {_FILE_PATH, *_CRYPTO}
_NONE = (I64, 0)


class Footer:
    """What the end of a Parquet file says: its row groups, and where their bytes are."""

    def __init__(self, tree: Struct, file_bytes: int) -> None:
        """Raises KeyError, TypeError, IndexError or ValueError: it lacks what a footer has."""
        self.tree = tree
        self.groups: list[Struct] = tree[_GROUPS][1][1]
        self.rows: int = tree[_ROWS][1]
        self.file_bytes = file_bytes
        self.plain_bytes = 0
        """Size of all its column chunks before they were compressed."""
        self.spark_keys: dict[bytes, bytes] = _spark_keys(tree)
        """What Spark noted, and needs to know the values."""
        compressed = 0
        is_whole = _ENCRYPTION not in tree and not is_of_old_calendar(self.spark_keys)
        for chunk in self._chunks():
            start, size = extent(chunk)
            self.plain_bytes += chunk[_META][1][_PLAIN][1]
            compressed += size
            if (
                start < len(_MAGIC)
                or size < 0
                or start + size > file_bytes
                or not _NOT_COPYABLE.isdisjoint(chunk)
            ):
                is_whole = False
        self._is_whole = is_whole
        self.group_bytes_mean = compressed / len(self.groups) if self.groups else 0.0
        """Mean compressed size of a row group; 0 if there is none."""

    def is_kin(self, other: Footer) -> bool:
        """Whether row groups of both files may stand in one file."""
        return self.spark_keys == other.spark_keys and all(
            self.tree.get(field) == other.tree.get(field) for field in _KINSHIP
        )

    def is_copyable(self) -> bool:
        """Whether its chunks can be lifted out: in this file, in one piece, readable by all."""
        return self._is_whole

    def _chunks(self) -> Iterator[Struct]:
        for group in self.groups:
            yield from group[_COLUMNS][1][1]


class FooterReader:
    """Reads the footers of files that are described alike: what they share is decoded once."""

    def __init__(self) -> None:
        self._head, self._tail = b"", b""
        self._shared: Struct = {}

    def read(self, file: BinaryIO) -> Footer | None:
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
            return Footer(self._decoded(tail[-8 - length : -8]), size)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None

    def _decoded(self, data: bytes) -> Struct:
        if self._head and data.startswith(self._head) and data.endswith(self._tail):
            # The same bytes after the same field are the same fields.
            try:
                own, last = decode_fields(
                    data, len(self._head), after=_SCHEMA, end=len(data) - len(self._tail)
                )
            except ValueError:
                return decode(data)
            if last == _GROUPS:
                return {**self._shared, **own}
        tree = decode(data)
        self._learn(tree, data)
        return tree

    def _learn(self, tree: Struct, data: bytes) -> None:
        """Remember the fields before and after the row groups, and their bytes."""
        head = encode({field: tree[field] for field in tree if field <= _SCHEMA})[:-1]
        until = encode({field: tree[field] for field in tree if field <= _GROUPS})[:-1]
        # Other spellings of the same are possible; then nothing is shared.
        if {_SCHEMA, _GROUPS} <= tree.keys() and data.startswith(until):
            self._head, self._tail = head, data[len(until) :]
            self._shared = {f: tree[f] for f in tree if f <= _SCHEMA or f > _GROUPS}


def read_footer(file: BinaryIO) -> Footer | None:
    """The footer of a Parquet file; None if it has none that we understand."""
    return FooterReader().read(file)


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
        if kept := self._first.spark_keys:
            pairs: list[Struct] = [
                {_KEY: (BINARY, key), _VALUE: (BINARY, value)} for key, value in kept.items()
            ]
            tree[_KEYS] = (LIST, (STRUCT, pairs))
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


def _spark_keys(tree: Struct) -> dict[bytes, bytes]:
    pairs: list[Struct] = tree[_KEYS][1][1] if _KEYS in tree else []
    found = {pair[_KEY][1]: pair.get(_VALUE, (BINARY, b""))[1] for pair in pairs}
    return {key: value for key, value in found.items() if key.startswith(SPARK_KEYS)}


def extent(chunk: Struct) -> tuple[int, int]:
    """Offset and size of a column chunk's bytes."""
    meta: dict[int, Any] = chunk[_META][1]
    start, dictionary = meta[_DATA][1], meta.get(_DICTIONARY, _NONE)[1]
    # Some writers put 0 where there is no dictionary.
    if dictionary > 0 and (dictionary < start or start <= 0):
        start = dictionary
    return start, meta[_COMPRESSED][1]
