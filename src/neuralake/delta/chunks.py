"""What the column chunks of a Parquet footer are made of, and which of their pages can be moved.

A chunk without a dictionary is nothing but its pages, and each page says by itself how many values
it has and how they are encoded: the chunks of a column can be laid end to end. So can chunks whose
dictionaries are the same, byte for byte: one of them serves all. What has to be decoded is the
rest, and pages so small that a reader would feel it.

Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from neuralake.delta.row_groups import Footer
from neuralake.delta.thrift import I64, LIST, STRUCT, Struct

__all__ = ["Column", "Recipe", "are_like", "columns_of", "leaf_metas", "recipe_for"]

# Pages of so many values, or of so many bytes before compression, are read about as quickly as full
# ones (20,000 values) and take up to 6 % more room.
_PAGE_VALUES_MIN = 1_000
_PAGE_BYTES_MIN = 16 * 1024
# What was compressed lightly, because it was little, is compressed well once; and so are pages of
# other writers, who say in this way that they care less for size.
_LIGHT_PAGE_VALUES_MIN = 5_000
# FileMetaData, RowGroup
_SCHEMA, _CREATED_BY, _COLUMNS = 2, 6, 1
# SchemaElement
_NAME, _CHILDREN = 4, 5
# ColumnChunk, ColumnMetaData
_META = 3
_TYPE, _ENCODINGS, _CODEC, _VALUES, _PLAIN, _COMPRESSED = 1, 2, 4, 5, 6, 7
_DATA, _INDEX_PAGE, _DICTIONARY, _PAGES = 9, 10, 11, 13
# PageEncodingStats
_PAGE_TYPE, _PAGE_ENCODING, _PAGE_COUNT = 1, 2, 3
_DATA_PAGES = {0, 3}
_INT96, _BYTES, _ZSTD = 3, 6, 6
_DICTIONARY_ENCODINGS = {2, 8}


@dataclass(frozen=True, slots=True)
class Column:
    """A top-level column: its part of the schema, and where its leaves are among all."""

    elements: list[Struct]
    leaves: range

    @property
    def name(self) -> str:
        name: bytes = self.elements[0][_NAME][1]
        return name.decode()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How each column of some files becomes one chunk."""

    names: tuple[str, ...]
    """All columns, in the order of the files."""
    joined: frozenset[str]
    """Their pages are laid end to end."""
    by_dictionary: frozenset[str]
    """Texts of which some file has a dictionary: they are encoded anew without being spelled out.
    All other columns are decoded."""
    joined_bytes: int
    """Size of the pages that are laid end to end."""

    @property
    def anew(self) -> list[str]:
        """The columns that are encoded again."""
        return [name for name in self.names if name not in self.joined]


def recipe_for(files: Sequence[tuple[Footer, bytes | None]]) -> Recipe:
    """What can be done with `files`, of one kinship: each by its footer and its bytes.

    Without the bytes (None) dictionaries are hoped to be the same.

    Raises:
        ValueError: a footer is damaged, or its row groups are not as its schema.
    """
    try:
        return _recipe(files)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("A footer is damaged.") from error


def columns_of(footer: Footer) -> list[Column]:
    """The top-level columns of a file, in its order.

    Raises:
        ValueError: the schema contradicts itself or the row groups.
    """
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
        columns.append(Column(elements[at:end], range(leaf, leaf + leaves)))
        at, leaf = end, leaf + leaves
    _check_width(footer, leaf)
    return columns


def leaf_metas(footer: Footer, leaf: int) -> Iterator[Struct]:
    """The metadata of a leaf's chunks, one of each row group."""
    for group in footer.groups:
        yield group[_COLUMNS][1][1][leaf][_META][1]


def are_like(footer: Footer, recoded: Footer) -> bool:
    """Whether every column of `recoded` is described as in `footer`, by the same writer."""
    there = {column.name: column.elements for column in columns_of(footer)}
    return recoded.tree.get(_CREATED_BY) == footer.tree.get(_CREATED_BY) and all(
        there.get(column.name) == column.elements for column in columns_of(recoded)
    )


def _recipe(files: Sequence[tuple[Footer, bytes | None]]) -> Recipe:
    columns = columns_of(files[0][0])
    for footer, _ in files:
        _check_width(footer, columns[-1].leaves.stop if columns else 0)
    joined, by_dictionary, size = set(), set(), 0
    for column in columns:
        found = [
            [(meta, data) for footer, data in files for meta in leaf_metas(footer, leaf)]
            for leaf in column.leaves
        ]
        if all(map(_can_join, found)):
            joined.add(column.name)
            size += sum(meta[_COMPRESSED][1] for leaf in found for meta, _ in leaf)
        elif _is_text(found) and any(_has_dictionary(meta) for meta, _ in found[0]):
            by_dictionary.add(column.name)
    names = tuple(column.name for column in columns)
    return Recipe(names, frozenset(joined), frozenset(by_dictionary), size)


def _check_width(footer: Footer, leaves: int) -> None:
    if any(len(group[_COLUMNS][1][1]) != leaves for group in footer.groups):
        raise ValueError("A row group has other columns than the schema.")


def _can_join(chunks: Sequence[tuple[Struct, bytes | None]]) -> bool:
    """Whether the chunks of a leaf can be laid end to end, and are worth it."""
    metas = [meta for meta, _ in chunks]
    first = metas[0] if metas else None
    if first is None or first[_TYPE][1] == _INT96:
        return False
    if any(meta[_TYPE] != first[_TYPE] or meta[_CODEC] != first[_CODEC] for meta in metas):
        return False
    if any(meta.get(_INDEX_PAGE, (I64, 0))[1] > 0 for meta in metas):
        return False
    if not _have_good_pages(metas):
        return False
    dictionaries = [_dictionary_page(*chunk) for chunk in chunks]
    if any(dictionaries):
        return all(page == dictionaries[0] for page in dictionaries)
    return all(_DICTIONARY_ENCODINGS.isdisjoint(meta[_ENCODINGS][1][1]) for meta in metas)


def _have_good_pages(metas: Collection[Struct]) -> bool:
    pages = sum(map(_page_count, metas))
    values = sum(meta[_VALUES][1] for meta in metas)
    if any(meta[_CODEC][1] != _ZSTD for meta in metas):
        return bool(values >= pages * _LIGHT_PAGE_VALUES_MIN)
    size = sum(meta[_PLAIN][1] for meta in metas)
    return bool(values >= pages * _PAGE_VALUES_MIN or size >= pages * _PAGE_BYTES_MIN)


def _page_count(meta: Struct) -> int:
    """Data pages of a chunk; where it does not say, as if it were one."""
    return (
        sum(page[_PAGE_COUNT][1] for page in _pages(meta) if page[_PAGE_TYPE][1] in _DATA_PAGES)
        or 1
    )


def _dictionary_page(meta: Struct, data: bytes | None) -> bytes:
    """A chunk's dictionary, as it lies in the file; empty if it has none."""
    if not _has_dictionary(meta):
        return b""
    start, end = meta[_DICTIONARY][1], meta[_DATA][1]
    return b"?" if data is None else data[start:end]


def _has_dictionary(meta: Struct) -> bool:
    return bool(0 < meta.get(_DICTIONARY, (I64, 0))[1] < meta[_DATA][1])


def _is_text(leaves: Sequence[Sequence[tuple[Struct, bytes | None]]]) -> bool:
    return len(leaves) == 1 and all(meta[_TYPE][1] == _BYTES for meta, _ in leaves[0])


def _pages(meta: Struct) -> list[Struct]:
    pages: list[Struct] = meta.get(_PAGES, (LIST, (STRUCT, [])))[1][1]
    return pages
