"""One row group out of many files: their columns as one chunk each, with little decoding.

Files are added one at a time, so that of each only its bytes are kept: the footers of thousands of
small files would be most of the memory, and of the time. Columns whose chunks cannot be laid end to
end (`chunks.py`), or whose pages are too small to be kept, are handed over encoded anew by whoever
merges: of those with small pages he gets all at once, as a file of its own (`excerpt`).

Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from neuralake.delta.chunks import LeafChunks
from neuralake.delta.row_groups import Footer, Joiner
from neuralake.delta.thrift import I32, I64, LIST, STRUCT, Struct

__all__ = ["MergedGroup", "Pages", "Recipe", "are_like"]

# FileMetaData
_VERSION, _SCHEMA, _ROWS, _GROUPS, _CREATED_BY, _ORDERS = 1, 2, 3, 4, 6, 7
_NEEDED = {_VERSION, _CREATED_BY}
# RowGroup
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_COMPRESSED = 1, 2, 3, 5, 6
# SchemaElement
_NAME, _CHILDREN = 4, 5
# ColumnChunk
_CHUNK_OFFSET, _META = 2, 3
# A row group: its files are in memory (bytes before compression), and some columns as Arrow has
# them, with about so many bytes a value.
_ROWS_MAX = 1024 * 1024
_BYTES_MAX = 64 * 1024 * 1024
_VALUE_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Column:
    """A top-level column: its part of the schema, and where its leaves are among all."""

    name: str
    elements: list[Struct]
    leaves: range

    @property
    def leaf_elements(self) -> list[Struct]:
        return [each for each in self.elements if not each.get(_CHILDREN, (0, 0))[1]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done with each column."""

    joined: tuple[str, ...]
    """Its pages are laid end to end."""
    small: tuple[str, ...]
    """They can be, but are so small that they must become larger ones."""
    anew: tuple[str, ...]
    """It must be decoded file by file."""
    by_dictionary: frozenset[str]
    """Texts of which some file has a dictionary: they need not be spelled out to be encoded."""


@dataclass(frozen=True, slots=True)
class MergedGroup:
    """A row group to be written at the place that it was made for."""

    group: Struct
    chunks: list[bytes]
    """Its bytes, chunk by chunk, without anything in between."""
    rows: int


class Pages:
    """The row groups of files of one kinship, to become one.

    Args:
        first: a footer of that kinship.

    Raises:
        ValueError: here and below: a footer is damaged, contradicts itself or the others, or does
            not name its writer.
    """

    def __init__(self, first: Footer) -> None:
        if _NEEDED - first.tree.keys():
            raise ValueError("A footer does not tell its version or its writer.")
        self.first = first
        self.rows = 0
        self._plain_bytes = 0
        self.files: list[tuple[str, bytes]] = []
        """Path and bytes of each."""
        try:
            self._columns = _columns(first)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError("A footer is damaged.") from error
        self._elements = [each for column in self._columns for each in column.leaf_elements]
        self._leaves: list[LeafChunks] = []

    @property
    def names(self) -> list[str]:
        """The top-level columns, in the order of the files."""
        return [column.name for column in self._columns]

    def has_room_for(self, footer: Footer) -> bool:
        """Whether the rows of a file, not the first, fit into the same row group."""
        rows = self.rows + footer.rows
        size = max(self._plain_bytes + footer.plain_bytes, rows * len(self._leaves) * _VALUE_BYTES)
        if rows > _ROWS_MAX or size > _BYTES_MAX:
            return False
        # Pages of one chunk are compressed in one way.
        return all(
            chunk.manner is leaf.manner or chunk.manner.codec == leaf.codec
            for group in footer.chunks
            for chunk, leaf in zip(group, self._leaves, strict=False)
        )

    def add(self, path: str, footer: Footer, data: bytes) -> None:
        """Take all rows of a file: copyable, and of the kinship of `first`."""
        try:
            for group in footer.chunks:
                if not self._leaves:
                    pairs = zip(group, self._elements, strict=True)
                    self._leaves = [LeafChunks(chunk.manner, leaf) for chunk, leaf in pairs]
                for leaf, chunk in zip(self._leaves, group, strict=True):
                    leaf.add(chunk, data)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError("A footer is damaged.") from error
        self.files.append((path, data))
        self.rows += footer.rows
        self._plain_bytes += footer.plain_bytes

    def recipe(self) -> Recipe:
        """What has to be done with each column."""
        joined: list[str] = []
        small: list[str] = []
        anew: list[str] = []
        by_dictionary: list[str] = []
        for column in self._columns:
            leaves = self._of(column)
            is_joinable = bool(leaves) and all(leaf.is_joinable for leaf in leaves)
            if is_joinable and all(leaf.is_good() for leaf in leaves):
                joined.append(column.name)
                continue
            (small if is_joinable else anew).append(column.name)
            if len(leaves) == 1 and leaves[0].is_bytes and leaves[0].has_dictionary:
                by_dictionary.append(column.name)
        return Recipe(tuple(joined), tuple(small), tuple(anew), frozenset(by_dictionary))

    def size_bytes(self, names: Collection[str]) -> int:
        """Size of the chunks of the columns `names`, compressed."""
        chosen = [column for column in self._columns if column.name in names]
        return sum(leaf.size_bytes for column in chosen for leaf in self._of(column))

    def excerpt(self, names: Collection[str]) -> bytes:
        """A Parquet file of the columns `names` alone, their pages laid end to end."""
        chosen = [column for column in self._columns if column.name in names]
        tree, (kind, elements) = self.first.tree, self.first.tree[_SCHEMA][1]
        root = {**elements[0], _CHILDREN: (I32, len(chosen))}
        below = [element for column in chosen for element in column.elements]
        part: Struct = {
            _VERSION: tree[_VERSION],
            _SCHEMA: (LIST, (kind, [root, *below])),
            _ROWS: (I64, 0),
            _GROUPS: (LIST, (STRUCT, [])),
            _CREATED_BY: tree[_CREATED_BY],
        }
        if _ORDERS in tree:
            kind, orders = tree[_ORDERS][1]
            kept = [orders[leaf] for column in chosen for leaf in column.leaves]
            part[_ORDERS] = (LIST, (kind, kept))
        sink = io.BytesIO()
        joiner = Joiner(sink)
        made = _group([(self, column) for column in chosen], self.rows, joiner.size_bytes)
        joiner.add_group(Footer(part, 0), made.group, made.chunks, made.rows)
        joiner.close()
        return sink.getvalue()

    def merged(self, recoded: Sequence[Pages], at: int) -> MergedGroup:
        """All rows, in order, as one row group that begins at offset `at`.

        Args:
            recoded: columns to be used instead: the same rows in one row group.
        """
        if any(part.rows != self.rows for part in recoded):
            raise ValueError("The columns that were encoded anew do not have these rows.")
        anew = {column.name: (part, column) for part in recoded for column in part._columns}
        chosen = [anew.get(column.name, (self, column)) for column in self._columns]
        return _group(chosen, self.rows, at)

    def _of(self, column: _Column) -> list[LeafChunks]:
        return self._leaves[column.leaves.start : column.leaves.stop]


def are_like(footer: Footer, recoded: Footer) -> bool:
    """Whether every column of `recoded` is described as in `footer`, by the same writer."""
    there = {column.name: column.elements for column in _columns(footer)}
    return recoded.tree.get(_CREATED_BY) == footer.tree.get(_CREATED_BY) and all(
        there.get(column.name) == column.elements for column in _columns(recoded)
    )


def _group(chosen: Sequence[tuple[Pages, _Column]], rows: int, at: int) -> MergedGroup:
    metas: list[Struct] = []
    chunks: list[bytes] = []
    place = at
    for pages, column in chosen:
        leaves = pages._of(column)
        if len(column.elements) == 1 and [leaf.values for leaf in leaves] != [rows]:
            raise ValueError(f"Column {column.name} has not {rows} values in {rows} rows.")
        for leaf in leaves:
            metas.append(leaf.meta(place))
            chunks.append(leaf.chunk())
            place += len(chunks[-1])
    # Where a chunk's metadata lies if it is repeated in the file; 0 if it is not.
    columns: list[Struct] = [{_CHUNK_OFFSET: (I64, 0), _META: (STRUCT, meta)} for meta in metas]
    group: Struct = {
        _COLUMNS: (LIST, (STRUCT, columns)),
        _GROUP_BYTES: (I64, sum(leaf.plain_bytes for leaf in _leaves(chosen))),
        _GROUP_ROWS: (I64, rows),
        _GROUP_OFFSET: (I64, at),
        _GROUP_COMPRESSED: (I64, place - at),
    }
    return MergedGroup(group, chunks, rows)


def _leaves(chosen: Sequence[tuple[Pages, _Column]]) -> Iterator[LeafChunks]:
    for pages, column in chosen:
        yield from pages._of(column)


def _columns(footer: Footer) -> list[_Column]:
    """Raises ValueError: the schema contradicts itself or the row groups."""
    elements: list[Struct] = footer.tree[_SCHEMA][1][1]
    columns, at, leaf = [], 1, 0
    while at < len(elements):
        end, open_children, leaves = at, 1, 0
        while open_children:
            if end == len(elements):
                raise ValueError("The schema is cut off.")
            children = elements[end].get(_CHILDREN, (0, 0))[1]
            open_children += children - 1
            leaves += children == 0
            end += 1
        name: bytes = elements[at][_NAME][1]
        columns.append(_Column(name.decode(), elements[at:end], range(leaf, leaf + leaves)))
        at, leaf = end, leaf + leaves
    if any(len(group) != leaf for group in footer.chunks):
        raise ValueError("A row group has other columns than the schema.")
    return columns
