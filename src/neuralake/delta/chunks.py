"""The column chunks of a leaf, file after file, as one: their data pages, laid end to end.

A chunk without a dictionary is nothing but its pages, and each page says by itself how many values
it has and how they are encoded. So the chunks of many files become one without being decoded. So do
chunks with dictionaries that are the same, byte for byte: the first one serves all.

Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections import Counter

from neuralake.delta.chunk_bounds import ChunkBounds
from neuralake.delta.chunk_meta import Chunk, Manner
from neuralake.delta.thrift import I32, I64, LIST, STRUCT, Struct, decode_at

__all__ = ["LeafChunks"]

# Pages of so many values, or of so many bytes before compression, are kept. Against full ones
# (20,000 values) they take up to 7 % more room, and texts in the smallest of them are read in 1.1
# to 2 times the time; to encode them anew costs as much as four to ten such reads lose.
_PAGE_VALUES_MIN = 1_000
_PAGE_BYTES_MIN = 8 * 1024
# What was compressed lightly, because it was little, is compressed well once.
_LIGHT_PAGE_VALUES_MIN = 5_000
# ColumnMetaData
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _PLAIN, _COMPRESSED = 1, 2, 3, 4, 5, 6, 7
_DATA, _DICTIONARY, _STATISTICS, _PAGES = 9, 11, 12, 13
# PageEncodingStats, PageHeader
_PAGE_TYPE, _PAGE_ENCODING, _PAGE_COUNT = 1, 2, 3
_PAGE_PLAIN, _PAGE_COMPRESSED = 2, 3
_DATA_PAGES, _DICTIONARY_PAGE = {0, 3}, 2
# Field 1, an integer; Thrift's compact protocol has the integer twice as large.
_TYPE_FIELD = _PAGE_TYPE << 4 | I32
_INT96, _BYTES, _ZSTD = 3, 6, 6
_DICTIONARY_ENCODINGS = {2, 8}


class LeafChunks:
    """What was added so far, and what it is as one chunk."""

    def __init__(self, manner: Manner, element: Struct) -> None:
        """
        Args:
            manner: of the first chunk, which is yet to be added.
            element: the leaf in the schema.
        """
        self.manner = manner
        self._kind, self._path = manner.kind, manner.path
        self.codec = manner.codec
        """How its pages are compressed."""
        self._bounds = ChunkBounds(self._kind[1], element)
        # How many chunks are written in which manner; few manners, and many chunks.
        self._manners: Counter[Manner] = Counter()
        self._parts: list[memoryview] = []
        self._dictionary, self._dictionary_plain_bytes = b"", 0
        self._is_joinable = True
        self.has_dictionary = False
        """Whether some chunk has a dictionary."""
        self.values = 0
        """With nulls."""
        self.plain_bytes = 0
        self.size_bytes = 0

    @property
    def is_bytes(self) -> bool:
        """Whether its values are texts or bytes."""
        return bool(self._kind[1] == _BYTES)

    @property
    def is_joinable(self) -> bool:
        """Whether the chunks, laid end to end, are one."""
        return len(self._parts) == 1 or (self._is_joinable and self._kind[1] != _INT96)

    def is_good(self) -> bool:
        """Whether the pages are of a size that a reader does not feel."""
        pages = sum(_data_pages(manner) * chunks for manner, chunks in self._manners.items())
        if self.codec[1] != _ZSTD:
            return self.values >= pages * _LIGHT_PAGE_VALUES_MIN
        return (
            self.values >= pages * _PAGE_VALUES_MIN or self.plain_bytes >= pages * _PAGE_BYTES_MIN
        )

    def add(self, chunk: Chunk, data: bytes) -> None:
        """Note a chunk of the file `data`, inside of which it lies.

        Args:
            data: empty: only the metadata is looked at.

        Raises:
            ValueError, KeyError, TypeError: its metadata is damaged, or of another leaf.
        """
        manner, plain, size = chunk.manner, chunk.plain_bytes, chunk.size_bytes
        if manner not in self._manners:
            self._meet(manner)
        self._manners[manner] += 1
        start, dictionary_at = chunk.data_at, chunk.dictionary_at
        own = data[dictionary_at:start] if 0 < dictionary_at < start else b""
        if not self._parts:
            self._dictionary = own
            start -= len(own)
        elif own != self._dictionary:
            self._is_joinable = False
        elif own:
            plain, size = plain - self._spared(), size - len(own)
        if own:
            self.has_dictionary = True
        elif _needs_dictionary(manner) or _is_dictionary(data, start, size):
            self._is_joinable = False  # It is somewhere that the footer does not tell.
        self._bounds.add(chunk)
        self._parts.append(memoryview(data)[start : start + size])
        self.values += chunk.values
        self.plain_bytes += plain
        self.size_bytes += size

    def _meet(self, manner: Manner) -> None:
        if manner.kind != self._kind or manner.path != self._path:
            raise ValueError("The chunks are of different types.")
        if manner.codec != self.codec or manner.has_index_page:
            self._is_joinable = False

    def meta(self, at: int) -> Struct:
        """The metadata of all chunks as one, which begins at offset `at`."""
        whole: Struct = {
            _TYPE: self._kind,
            _ENCODINGS: (LIST, (I32, self._encodings())),
            _PATH: self._path,
            _CODEC: self.codec,
            _VALUES: (I64, self.values),
            _PLAIN: (I64, self.plain_bytes),
            _COMPRESSED: (I64, self.size_bytes),
            _DATA: (I64, at + len(self._dictionary)),
        }
        if self._dictionary:
            whole[_DICTIONARY] = (I64, at)
        if statistics := self._bounds.statistics():
            whole[_STATISTICS] = (STRUCT, statistics)
        if (counts := self._page_counts()) is not None:
            whole[_PAGES] = (LIST, (STRUCT, [*map(_page_count, counts.items())]))
        return whole

    def chunk(self) -> bytes:
        """The bytes of all chunks as one.

        Raises:
            ValueError: they cannot be one.
        """
        if not self.is_joinable:
            raise ValueError("The chunks cannot be laid end to end.")
        chunk = b"".join(self._parts)
        if len(chunk) != self.size_bytes:
            raise ValueError("The file ends inside a column chunk.")
        return chunk

    def _encodings(self) -> list[int]:
        return [*dict.fromkeys(each for manner in self._manners for each in manner.encodings)]

    def _page_counts(self) -> Counter[tuple[int, int]] | None:
        """How many pages there are of each type and encoding; readers skip by them."""
        found: Counter[tuple[int, int]] = Counter()
        for manner, chunks in self._manners.items():
            if manner.pages is None:
                return None
            for kind, encoding, count in manner.pages:
                found[kind, encoding] += count * chunks
        return found

    def _spared(self) -> int:
        """Bytes, before compression, of the dictionary page that a chunk leaves behind."""
        if not self._dictionary_plain_bytes:
            header, header_bytes = decode_at(self._dictionary, 0)
            is_one = header[_PAGE_TYPE][1] == _DICTIONARY_PAGE
            if not is_one or header_bytes + header[_PAGE_COMPRESSED][1] != len(self._dictionary):
                raise ValueError("Something else than a dictionary lies before the data pages.")
            self._dictionary_plain_bytes = header_bytes + header[_PAGE_PLAIN][1]
        return self._dictionary_plain_bytes


def _data_pages(manner: Manner) -> int:
    """How many a chunk has; as if it were one, if the footer does not tell."""
    if manner.pages is None:
        return 1
    return sum(count for kind, _, count in manner.pages if kind in _DATA_PAGES)


def _needs_dictionary(manner: Manner) -> bool:
    return not _DICTIONARY_ENCODINGS.isdisjoint(manner.encodings)


def _is_dictionary(data: bytes, at: int, size: int) -> bool:
    """Whether the page that begins at `at` is one; False without data."""
    if not data or not size:
        return False
    head = data[at : at + 2]
    # Its type comes first; to decode all of each header would be a tenth of compaction's time.
    if len(head) == 2 and head[0] == _TYPE_FIELD and head[1] < 0x80:
        return head[1] == 2 * _DICTIONARY_PAGE
    return bool(decode_at(data, at)[0][_PAGE_TYPE][1] == _DICTIONARY_PAGE)


def _page_count(counted: tuple[tuple[int, int], int]) -> Struct:
    (kind, encoding), count = counted
    return {
        _PAGE_TYPE: (I32, kind),
        _PAGE_ENCODING: (I32, encoding),
        _PAGE_COUNT: (I32, 1 if kind == _DICTIONARY_PAGE else count),
    }
