"""One row group out of many: the data pages of their column chunks, laid end to end.

A column chunk without a dictionary is nothing but its pages, and each page says by itself how many
values it has and how they are encoded. So numbers, times, flags and decimals of row groups that are
too small to be copied as they are need no decoding either. Chunks with a dictionary (texts) cannot
be laid end to end: whoever merges hands over such columns as one chunk, encoded anew.

The footer's bounds of the new row group are those of its parts together, or absent where that is
not certain. Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neuralake.delta.row_groups import Footer, extent
from neuralake.delta.thrift import I64, LIST, STRUCT, TRUE, Struct, encode

__all__ = [
    "MergedGroup",
    "Piece",
    "are_like",
    "check",
    "column_names",
    "dictionary_columns",
    "merged",
    "pages_of",
]

# FileMetaData, RowGroup
_SCHEMA, _CREATED_BY = 2, 6
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_COMPRESSED = 1, 2, 3, 5, 6
# SchemaElement
_NAME, _CHILDREN, _CONVERTED, _LOGICAL = 4, 5, 6, 10
# ColumnChunk, ColumnMetaData
_CHUNK_OFFSET, _META = 2, 3
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _PLAIN, _COMPRESSED = 1, 2, 3, 4, 5, 6, 7
_DATA, _INDEX_PAGE, _DICTIONARY, _STATISTICS, _PAGES = 9, 10, 11, 12, 13
# PageEncodingStats
_PAGE_TYPE, _PAGE_ENCODING = 1, 2
_DATA_PAGES = {0, 3}
# Statistics
_NULLS, _MAX, _MIN, _MAX_IS_EXACT, _MIN_IS_EXACT = 3, 5, 6, 7, 8
_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE, _FIXED = 0, 1, 2, 4, 5, 7
_MERGEABLE = {_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE, _FIXED}
_DICTIONARY_ENCODINGS = {2, 8}
_DECIMAL, _UNSIGNED = 5, {11, 12, 13, 14}  # ConvertedType


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of which all rows go into the new row group."""

    path: str
    footer: Footer
    data: bytes
    """The whole file."""


@dataclass(frozen=True, slots=True)
class MergedGroup:
    """A row group to be written at the place that it was made for."""

    group: Struct
    chunks: list[bytes]
    """Its bytes, chunk by chunk, without anything in between."""
    rows: int


@dataclass(frozen=True, slots=True)
class _Column:
    """A top-level column: its part of the schema, and where its leaves are among all."""

    elements: list[Struct]
    leaves: range

    @property
    def name(self) -> str:
        name: bytes = self.elements[0][_NAME][1]
        return name.decode()


def check(footer: Footer) -> None:
    """Raises ValueError: it is damaged, so that the functions here cannot work on it."""
    try:
        pages_of(footer)
        dictionary_columns(footer)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("A footer is damaged.") from error


def column_names(footer: Footer) -> list[str]:
    """The top-level columns of a file, in its order."""
    return [column.name for column in _columns(footer)]


def pages_of(footer: Footer) -> dict[str, int]:
    """The columns whose pages may be laid end to end, with their size in all row groups."""
    return {
        column.name: sum(meta[_COMPRESSED][1] for meta in _metas(footer, column))
        for column in _columns(footer)
        if all(_has_only_pages(meta) for meta in _metas(footer, column))
    }


def dictionary_columns(footer: Footer) -> set[str]:
    """The columns of which every value is a number in a dictionary."""
    return {
        column.name
        for column in _columns(footer)
        if all(_is_by_dictionary(meta) for meta in _metas(footer, column))
    }


def are_like(footer: Footer, recoded: Footer) -> bool:
    """Whether every column of `recoded` is described as in `footer`, by the same writer."""
    there = {column.name: column.elements for column in _columns(footer)}
    return recoded.tree.get(_CREATED_BY) == footer.tree.get(_CREATED_BY) and all(
        there.get(column.name) == column.elements for column in _columns(recoded)
    )


def merged(pieces: Sequence[Piece], recoded: Piece | None, at: int) -> MergedGroup:
    """All rows of `pieces`, in order, as one row group that begins at offset `at`.

    Args:
        pieces: files of the same kinship, copyable.
        recoded: a file with the rows of all pieces in one row group, of the columns that it has;
            None: the pages of all columns are taken.

    Raises:
        ValueError: they do not fit together, or a footer is damaged.
    """
    try:
        return _merged(pieces, recoded, at)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("A footer is damaged.") from error


def _merged(pieces: Sequence[Piece], recoded: Piece | None, at: int) -> MergedGroup:
    rows = sum(piece.footer.rows for piece in pieces)
    if recoded is not None and [group[_GROUP_ROWS][1] for group in recoded.footer.groups] != [rows]:
        raise ValueError("The columns that were encoded anew are not one row group of these rows.")
    anew = {} if recoded is None else {each.name: each for each in _columns(recoded.footer)}
    metas: list[Struct] = []
    chunks: list[bytes] = []
    place = at
    for column in _columns(pieces[0].footer):
        if recoded is not None and column.name in anew:
            made = _taken([recoded], anew[column.name], rows, place)
        else:
            made = _joined(pieces, column, rows, place)
        for meta, chunk in made:
            metas.append(meta)
            chunks.append(chunk)
            place += len(chunk)
    group: Struct = {
        _COLUMNS: (LIST, (STRUCT, [_chunk(meta) for meta in metas])),
        _GROUP_BYTES: (I64, sum(meta[_PLAIN][1] for meta in metas)),
        _GROUP_ROWS: (I64, rows),
        _GROUP_OFFSET: (I64, at),
        _GROUP_COMPRESSED: (I64, place - at),
    }
    return MergedGroup(group, chunks, rows)


def _joined(
    pieces: Sequence[Piece], column: _Column, rows: int, at: int
) -> Iterator[tuple[Struct, bytes]]:
    """The chunks of a column of which there are only pages."""
    for piece in pieces:
        if not all(_has_only_pages(meta) for meta in _metas(piece.footer, column)):
            raise ValueError(f"Column {column.name} has a dictionary.")
    yield from _taken(pieces, column, rows, at)


def _taken(
    pieces: Sequence[Piece], column: _Column, rows: int, at: int
) -> Iterator[tuple[Struct, bytes]]:
    """Metadata, for the place `at` on, and bytes of each leaf of a column."""
    for leaf in column.leaves:
        found = [(meta, piece.data) for piece in pieces for meta in _leaf_metas(piece.footer, leaf)]
        parts = []
        for meta, data in found:
            start, size = extent({_META: (STRUCT, meta)})
            parts.append(memoryview(data)[start : start + size])
        chunk = b"".join(parts)
        meta = _sum([meta for meta, _ in found], column.elements[-1], at)
        if len(column.elements) == 1 and meta[_VALUES][1] != rows:
            raise ValueError(f"Column {column.name} has {meta[_VALUES][1]} values in {rows} rows.")
        if len(chunk) != meta[_COMPRESSED][1]:
            raise ValueError("The file ends inside a column chunk.")
        yield meta, chunk
        at += len(chunk)


def _sum(metas: list[Struct], element: Struct, at: int) -> Struct:
    """The metadata of the chunks `metas` as one, which begins at offset `at`."""
    first = metas[0]
    if len({(meta[_TYPE], meta[_CODEC], encode({1: meta[_PATH]})) for meta in metas}) != 1:
        raise ValueError("The chunks are of different types, or compressed in different ways.")
    shift = at - extent({_META: (STRUCT, first)})[0]
    encodings = [*dict.fromkeys(value for meta in metas for value in meta[_ENCODINGS][1][1])]
    whole: Struct = {
        _TYPE: first[_TYPE],
        _ENCODINGS: (LIST, (first[_ENCODINGS][1][0], encodings)),
        _PATH: first[_PATH],
        _CODEC: first[_CODEC],
        _DATA: (I64, first[_DATA][1] + shift),
    }
    for field in (_VALUES, _PLAIN, _COMPRESSED):
        whole[field] = (I64, sum(meta[field][1] for meta in metas))
    if first.get(_DICTIONARY, (I64, 0))[1] > 0:
        whole[_DICTIONARY] = (I64, first[_DICTIONARY][1] + shift)
    statistics = (
        first.get(_STATISTICS, (STRUCT, {}))[1] if len(metas) == 1 else _bounds(metas, element)
    )
    if statistics:
        whole[_STATISTICS] = (STRUCT, statistics)
    return whole


def _bounds(metas: list[Struct], element: Struct) -> Struct:
    """The statistics of several chunks together: what is certain of all."""
    parts = [meta.get(_STATISTICS, (STRUCT, {}))[1] for meta in metas]
    whole: Struct = {}
    if not all(_NULLS in part for part in parts):
        return whole
    whole[_NULLS] = (I64, sum(part[_NULLS][1] for part in parts))
    # A part of nothing but nulls bounds nothing away.
    valued = [
        part for part, meta in zip(parts, metas, strict=True) if part[_NULLS][1] < meta[_VALUES][1]
    ]
    order = _order(metas[0][_TYPE][1], element)
    if order is None or not valued or not all(_MIN in part and _MAX in part for part in valued):
        return whole
    least = min(valued, key=lambda part: order(part[_MIN][1]))
    greatest = max(valued, key=lambda part: order(part[_MAX][1]))
    whole[_MIN], whole[_MAX] = least[_MIN], greatest[_MAX]
    for field in (_MIN_IS_EXACT, _MAX_IS_EXACT):
        if all(part.get(field, (0, None))[0] == TRUE for part in valued):
            whole[field] = (TRUE, None)
    return whole


def _order(kind: int, element: Struct) -> Any:
    """What bounds of a type are compared by; None where that is not certain."""
    converted = element.get(_CONVERTED, (0, None))[1]
    if kind == _FIXED:
        if converted != _DECIMAL:
            return None
        return lambda bound: int.from_bytes(bound, "big", signed=True)
    if kind in (_BOOLEAN, _INT32, _INT64) and converted not in _UNSIGNED:
        return lambda bound: int.from_bytes(bound, "little", signed=True)
    return None  # Floats: NaN, and two zeros.


def _has_only_pages(meta: Struct) -> bool:
    return (
        meta[_TYPE][1] in _MERGEABLE
        and meta.get(_DICTIONARY, (I64, 0))[1] <= 0
        and meta.get(_INDEX_PAGE, (I64, 0))[1] <= 0
        and _DICTIONARY_ENCODINGS.isdisjoint(meta[_ENCODINGS][1][1])
    )


def _is_by_dictionary(meta: Struct) -> bool:
    pages: list[Struct] = meta.get(_PAGES, (LIST, (STRUCT, [])))[1][1]
    encodings = {page[_PAGE_ENCODING][1] for page in pages if page[_PAGE_TYPE][1] in _DATA_PAGES}
    return bool(encodings) and encodings <= _DICTIONARY_ENCODINGS


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
        columns.append(_Column(elements[at:end], range(leaf, leaf + leaves)))
        at, leaf = end, leaf + leaves
    if any(len(group[_COLUMNS][1][1]) != leaf for group in footer.groups):
        raise ValueError("A row group has other columns than the schema.")
    return columns


def _metas(footer: Footer, column: _Column) -> Iterator[Struct]:
    for leaf in column.leaves:
        yield from _leaf_metas(footer, leaf)


def _leaf_metas(footer: Footer, leaf: int) -> Iterator[Struct]:
    for group in footer.groups:
        yield group[_COLUMNS][1][1][leaf][_META][1]


def _chunk(meta: Struct) -> Struct:
    # Where the chunk's metadata lies if it is repeated in the file; 0 if it is not.
    return {_CHUNK_OFFSET: (I64, 0), _META: (STRUCT, meta)}
