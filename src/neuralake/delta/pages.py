"""One row group out of many: the data pages of their column chunks, laid end to end.

`chunks.py` says which columns that can be done with; whoever merges hands over the others as one
chunk, encoded anew. Of dictionaries that are the same the first one stays.

The footer's bounds of the new row group are those of its parts together, or absent where that is
not certain. Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neuralake.delta.chunks import Column, columns_of, leaf_metas
from neuralake.delta.row_groups import Footer, extent
from neuralake.delta.thrift import I32, I64, LIST, STRUCT, TRUE, Struct, decode_at

__all__ = ["MergedGroup", "Piece", "merged"]

# RowGroup
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_COMPRESSED = 1, 2, 3, 5, 6
# SchemaElement
_CONVERTED, _LOGICAL = 6, 10
# ColumnChunk, ColumnMetaData
_CHUNK_OFFSET, _META = 2, 3
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _PLAIN, _COMPRESSED = 1, 2, 3, 4, 5, 6, 7
_DATA, _DICTIONARY, _STATISTICS, _PAGES = 9, 11, 12, 13
# PageEncodingStats, PageHeader
_PAGE_TYPE, _PAGE_ENCODING, _PAGE_COUNT = 1, 2, 3
_PAGE_PLAIN, _PAGE_COMPRESSED = 2, 3
_DICTIONARY_PAGE = 2
# Statistics
_NULLS, _MAX, _MIN, _MAX_IS_EXACT, _MIN_IS_EXACT = 3, 5, 6, 7, 8
_BOOLEAN, _INT32, _INT64, _BYTES, _FIXED = 0, 1, 2, 6, 7
_DICTIONARY_ENCODINGS = {2, 8}
_TEXT, _DECIMAL, _UNSIGNED = 0, 5, {11, 12, 13, 14}  # ConvertedType
_LOGICAL_TEXT = 1  # LogicalType


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
    anew = {} if recoded is None else {each.name: each for each in columns_of(recoded.footer)}
    metas: list[Struct] = []
    chunks: list[bytes] = []
    place = at
    for column in columns_of(pieces[0].footer):
        if recoded is not None and column.name in anew:
            made = _taken([recoded], anew[column.name], rows, place)
        else:
            made = _taken(pieces, column, rows, place)
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


def _taken(
    pieces: Sequence[Piece], column: Column, rows: int, at: int
) -> Iterator[tuple[Struct, bytes]]:
    """Metadata, for the place `at` on, and bytes of each leaf of a column."""
    for leaf in column.leaves:
        found = [(meta, piece.data) for piece in pieces for meta in leaf_metas(piece.footer, leaf)]
        meta, chunk = _end_to_end(found, column.elements[-1], at)
        if len(column.elements) == 1 and meta[_VALUES][1] != rows:
            raise ValueError(f"Column {column.name} has {meta[_VALUES][1]} values in {rows} rows.")
        yield meta, chunk
        at += len(chunk)


def _end_to_end(
    found: Sequence[tuple[Struct, bytes]], element: Struct, at: int
) -> tuple[Struct, bytes]:
    """The chunks `found`, each with its file, as one that begins at offset `at`."""
    metas, parts = [], []
    dictionary = b""
    spared = 0  # Bytes, before compression, of what each chunk but the first leaves behind.
    for meta, data in found:
        start, size = extent({_META: (STRUCT, meta)})
        if start < 0 or size < 0 or start + size > len(data):
            raise ValueError("The file ends inside a column chunk.")
        own = data[start : meta[_DATA][1]]
        if not metas:
            dictionary, spared = own, _dictionary_bytes(own) if len(found) > 1 else 0
        elif own != dictionary or len(own) > size:
            raise ValueError("The chunks have different dictionaries.")
        elif own:
            meta = {
                **meta,
                _COMPRESSED: (I64, size - len(own)),
                _PLAIN: (I64, meta[_PLAIN][1] - spared),
            }
            start, size = start + len(own), size - len(own)
        metas.append(meta)
        parts.append(memoryview(data)[start : start + size])
    if not metas:
        raise ValueError("There is no row group.")
    if not dictionary and len(metas) > 1 and any(map(_needs_dictionary, metas)):
        raise ValueError("A chunk has a dictionary that its footer does not tell of.")
    return _sum(metas, element, at, len(dictionary)), b"".join(parts)


def _dictionary_bytes(page: bytes) -> int:
    """Size of a dictionary page and its header before compression; 0 if there is none."""
    if not page:
        return 0
    header, header_bytes = decode_at(page, 0)
    if header[_PAGE_TYPE][1] != _DICTIONARY_PAGE or header_bytes + header[_PAGE_COMPRESSED][
        1
    ] != len(page):
        raise ValueError("Something else than a dictionary lies before the data pages.")
    return int(header_bytes + header[_PAGE_PLAIN][1])


def _needs_dictionary(meta: Struct) -> bool:
    return not _DICTIONARY_ENCODINGS.isdisjoint(meta[_ENCODINGS][1][1])


def _sum(metas: list[Struct], element: Struct, at: int, dictionary_bytes: int) -> Struct:
    """The metadata of the chunks `metas` as one, which begins at offset `at`."""
    first = metas[0]
    if any(
        meta[_TYPE] != first[_TYPE] or meta[_CODEC] != first[_CODEC] or meta[_PATH] != first[_PATH]
        for meta in metas
    ):
        raise ValueError("The chunks are of different types, or compressed in different ways.")
    encodings = [*dict.fromkeys(value for meta in metas for value in meta[_ENCODINGS][1][1])]
    whole: Struct = {
        _TYPE: first[_TYPE],
        _ENCODINGS: (LIST, (first[_ENCODINGS][1][0], encodings)),
        _PATH: first[_PATH],
        _CODEC: first[_CODEC],
        _DATA: (I64, at + dictionary_bytes),
    }
    for field in (_VALUES, _PLAIN, _COMPRESSED):
        whole[field] = (I64, sum(meta[field][1] for meta in metas))
    if dictionary_bytes:
        whole[_DICTIONARY] = (I64, at)
    statistics = (
        first.get(_STATISTICS, (STRUCT, {}))[1] if len(metas) == 1 else _bounds(metas, element)
    )
    if statistics:
        whole[_STATISTICS] = (STRUCT, statistics)
    if all(_PAGES in meta for meta in metas):
        whole[_PAGES] = (LIST, (STRUCT, _page_counts(metas)))
    return whole


def _page_counts(metas: list[Struct]) -> list[Struct]:
    """How many pages there are of each type and encoding; readers skip by them."""
    counts: Counter[tuple[int, int]] = Counter()
    for meta in metas:
        for page in meta[_PAGES][1][1]:
            counts[page[_PAGE_TYPE][1], page[_PAGE_ENCODING][1]] += page[_PAGE_COUNT][1]
    return [
        {
            _PAGE_TYPE: (I32, kind),
            _PAGE_ENCODING: (I32, encoding),
            _PAGE_COUNT: (I32, 1 if kind == _DICTIONARY_PAGE else count),
        }
        for (kind, encoding), count in counts.items()
    ]


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
    if kind == _BYTES and converted in (None, _TEXT):
        logical = element.get(_LOGICAL, (STRUCT, {}))[1]
        return bytes if logical.keys() <= {_LOGICAL_TEXT} else None
    return None  # Floats: NaN, and two zeros.


def _chunk(meta: Struct) -> Struct:
    # Where the chunk's metadata lies if it is repeated in the file; 0 if it is not.
    return {_CHUNK_OFFSET: (I64, 0), _META: (STRUCT, meta)}
