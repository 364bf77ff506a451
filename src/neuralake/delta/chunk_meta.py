"""What a footer says of a column chunk: what chunks have in common, and the numbers of each.

The chunks of a column are told of in the same bytes but for some numbers and bounds, file after
file, if one writer made them. So they are read by their form (`thrift_forms.py`), which takes a
third to a seventh of the time.

Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from neuralake.delta.thrift import BINARY, I64, STRUCT, Struct, decode_at
from neuralake.delta.thrift_forms import Form, Path

__all__ = ["Chunk", "ChunkForms", "Manner", "chunk_of"]

# ColumnChunk
_FILE_PATH, _CHUNK_OFFSET, _META, _INDEXES, _CRYPTO = 1, 2, 3, (4, 5, 6, 7), (8, 9)
# ColumnMetaData
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _PLAIN, _COMPRESSED = 1, 2, 3, 4, 5, 6, 7
_DATA, _INDEX_PAGE, _DICTIONARY, _STATISTICS, _PAGES, _SIZES = 9, 10, 11, 12, 13, 16
_BLOOM = (14, 15)
# PageEncodingStats
_PAGE_TYPE, _PAGE_ENCODING, _PAGE_COUNT = 1, 2, 3
# Statistics
_NULLS, _MAX, _MIN, _MAX_IS_EXACT, _MIN_IS_EXACT = 3, 5, 6, 7, 8
_DATED_BOUNDS = (1, 2)

_NOT_COPYABLE = {_FILE_PATH, *_CRYPTO}
_NONE: tuple[int, Any] = (0, None)
_ZERO = (I64, 0)
_NO_STRUCT: tuple[int, Struct] = (STRUCT, {})
# In the order of `Chunk`, and of what is not there: a dictionary is at 0 then, the others are None.
_VARIABLE = [
    *((_META, field) for field in (_VALUES, _PLAIN, _COMPRESSED, _DATA, _DICTIONARY)),
    *((_META, _STATISTICS, field) for field in (_NULLS, _MAX, _MIN)),
]
# Where indexes and filters lie, which stay behind, is another place in each file.
_IGNORED = [
    *((field,) for field in (_CHUNK_OFFSET, *_INDEXES)),
    *((_META, field) for field in (_SIZES, *_BLOOM)),
    *((_META, _STATISTICS, field) for field in _DATED_BOUNDS),
]
# To learn a form takes as long as to decode twenty to thirty chunks: it is done after so many that
# no form was of.
_UNLIKE_MIN = 16
# A column has two or three in practice: its texts repeat or do not, it has bounds or none.
_FORMS_MAX = 8
# Chunks of no form, more than were of one, that say that forms are of no use to a column.
_UNLIKE_MAX = _UNLIKE_MIN * _FORMS_MAX


# Not frozen, although nobody changes it: that would make half of the time to decode it.
@dataclass(slots=True, eq=False)
class Manner:
    """How a chunk is written. Chunks of one form have the same object."""

    kind: tuple[int, int]
    path: tuple[int, Any]
    codec: tuple[int, int]
    """How its pages are compressed."""
    encodings: tuple[int, ...]
    pages: tuple[tuple[int, int, int], ...] | None
    """Type, encoding and number of its pages; None: it does not tell."""
    has_index_page: bool
    is_copyable: bool
    """It can be lifted out: it is in this file, and not encrypted."""
    low_is_exact: int
    """TRUE, FALSE, or 0: it does not tell."""
    high_is_exact: int


class Chunk(NamedTuple):
    """A column chunk of a file."""

    manner: Manner
    values: int
    """With nulls."""
    plain_bytes: int
    size_bytes: int
    data_at: int
    dictionary_at: int
    """0: there is none, or the footer does not tell."""
    nulls: int | None
    high: bytes | None
    low: bytes | None

    @property
    def start(self) -> int:
        """Offset of its first byte."""
        data, dictionary = self.data_at, self.dictionary_at
        # Some writers put 0 where there is no dictionary.
        return dictionary if dictionary > 0 and (dictionary < data or data <= 0) else data


def chunk_of(struct: Struct) -> Chunk:
    """A ColumnChunk. Raises KeyError, TypeError, IndexError: it lacks what each has.

    Statistics that are not of their kind are as good as none.
    """
    meta: Struct = struct[_META][1]
    statistics: Struct = meta.get(_STATISTICS, _NO_STRUCT)[1]
    nulls, high, low = (
        _of_kind(kind, statistics.get(field))
        for kind, field in ((I64, _NULLS), (BINARY, _MAX), (BINARY, _MIN))
    )
    pages = meta[_PAGES][1][1] if _PAGES in meta else None
    manner = Manner(
        kind=meta[_TYPE],
        path=meta[_PATH],
        codec=meta[_CODEC],
        encodings=tuple(meta[_ENCODINGS][1][1]),
        pages=None if pages is None else tuple(map(_page, pages)),
        has_index_page=meta.get(_INDEX_PAGE, _ZERO)[1] > 0,
        is_copyable=_NOT_COPYABLE.isdisjoint(struct),
        low_is_exact=statistics.get(_MIN_IS_EXACT, _NONE)[0],
        high_is_exact=statistics.get(_MAX_IS_EXACT, _NONE)[0],
    )
    return Chunk(
        manner,
        _integer(meta[_VALUES]),
        _integer(meta[_PLAIN]),
        _integer(meta[_COMPRESSED]),
        _integer(meta[_DATA]),
        _integer(meta.get(_DICTIONARY, _ZERO)),
        nulls,
        high,
        low,
    )


class ChunkForms:
    """Reads the chunks of a column out of the footers of many files."""

    def __init__(self) -> None:
        self._known: list[tuple[Form, Manner, Callable[[list[Any]], tuple[Any, ...]]]] = []
        # Chunks of no form, less those that were of one.
        self._unlike, self._excess = 0, 0

    def read(self, data: bytes, at: int) -> tuple[Chunk, int]:
        """The ColumnChunk at `at`, and where it ends.

        Raises:
            ValueError, KeyError, TypeError, IndexError: it is damaged.
        """
        for form, manner, picked in self._known:
            if (found := form.read(data, at)) is not None:
                values, end = found
                values += (0, None)
                self._excess -= 1
                return Chunk(manner, *picked(values)), end
        struct, end = decode_at(data, at)
        chunk = chunk_of(struct)
        self._unlike, self._excess = self._unlike + 1, self._excess + 1
        if self._excess > _UNLIKE_MAX:
            self._known = []
        elif self._unlike % _UNLIKE_MIN == 0 and len(self._known) < _FORMS_MAX:
            self._learn(data[at:end], chunk.manner)
        return chunk, end

    def _learn(self, spelled: bytes, manner: Manner) -> None:
        try:
            # The bounds of texts differ in length, and teach a second form.
            form = Form(spelled, _VARIABLE, _IGNORED, is_fixed=not self._known)
        except ValueError:
            return
        there = {path: place for place, path in enumerate(form.paths)}
        absent: dict[Path, int] = {(_META, _DICTIONARY): -2}
        places = [there.get(path, absent.get(path, -1)) for path in _VARIABLE]
        # The newest first: it is the one for lengths of any kind.
        self._known.insert(0, (form, manner, itemgetter(*places)))


def _integer(field: tuple[int, Any]) -> int:
    kind, value = field
    if kind != I64:
        raise TypeError("A number is of another kind.")
    return int(value)


def _of_kind(kind: int, field: tuple[int, Any] | None) -> Any:
    return field[1] if field is not None and field[0] == kind else None


def _page(struct: Struct) -> tuple[int, int, int]:
    return struct[_PAGE_TYPE][1], struct[_PAGE_ENCODING][1], struct[_PAGE_COUNT][1]
