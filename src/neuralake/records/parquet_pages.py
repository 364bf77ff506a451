"""A Parquet file from outside, written anew: every header in it is one that we have checked.

A few bytes of Parquet may claim to be gigabytes: a page says how large it becomes, a dictionary and
a run say a long text a million times, a list in one row has any length. Here every page's header is
read, what all of them stand for is counted against bounds, and a new file is made of the pages'
bytes behind headers and a footer of our own. So a reader that understands Thrift in another way
than we do finds nothing else in it. No value is decoded, but the lengths of dictionaries' texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from neuralake.delta.thrift import (
    BINARY,
    FALSE,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
    decode_at,
    encode,
)
from neuralake.errors import TooLarge
from neuralake.records.parquet_schema import (
    BOOLEAN,
    BYTE_ARRAY,
    Leaf,
    flag,
    leaves,
    structs,
    whole,
)

__all__ = ["rewritten"]

_MAGIC = b"PAR1"
_FOOTER_BYTES_MAX = 1024 * 1024
# Each takes about 30 us, under the interpreter lock.
_PAGES_MAX = 16_384
# Footer, RowGroup, ColumnChunk, ColumnMetaData
_SCHEMA, _ROWS, _GROUPS, _ENCRYPTION = 2, 3, 4, 8
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS = 1, 2, 3
_FILE_PATH, _META, _CRYPTO = 1, 3, (8, 9)
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _PLAIN_BYTES, _PACKED_BYTES = 1, 2, 3, 4, 5, 6, 7
_DATA, _DICTIONARY = 9, 11
# PageHeader
_PAGE_TYPE, _UNPACKED, _PACKED, _V1, _WORDS, _V2 = 1, 2, 3, 5, 7, 8
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
# DataPageHeader, DataPageHeaderV2, DictionaryPageHeader
_COUNT, _ENCODING, _LEVELS, _REPEATS = 1, 2, 3, 4
_NULLS, _PAGE_ROWS, _V2_ENCODING, _LEVEL_BYTES, _REPEAT_BYTES, _IS_PACKED = 2, 3, 4, 5, 6, 7

_CODECS = {0: None, 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY, _BYTE_STREAM_SPLIT = 0, 2, 3, 8, 9
_BY_DICTIONARY = {_PLAIN_DICTIONARY, _RLE_DICTIONARY}


def rewritten(body: bytes, *, rows_max: int, bytes_max: int) -> bytes:
    """A Parquet file with the rows of `body`, safe to be read into about `bytes_max` of memory.

    Args:
        bytes_max: of all pages when they are unpacked, and of all values in memory.

    Raises:
        ValueError: it is damaged, encrypted, or written in a way that cannot be bounded.
        TooLarge: more than `rows_max` rows or `bytes_max` bytes.
    """
    try:
        return _File(body, rows_max=rows_max, bytes_max=bytes_max).rewritten()
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("its headers are damaged") from error


class _File:
    def __init__(self, body: bytes, *, rows_max: int, bytes_max: int) -> None:
        self._body, self._rows_max, self._bytes_max = body, rows_max, bytes_max
        self._out = bytearray(_MAGIC)
        self._rows = self._memory = self._unpacked = self._pages = 0
        self._words_left = rows_max

    def rewritten(self) -> bytes:
        """See the function."""
        tree, self._end = self._footer()
        found, elements = leaves(structs(tree, _SCHEMA))
        groups = [self._group(group, found) for group in structs(tree, _GROUPS)]
        rows = sum(group[_GROUP_ROWS][1] for group in groups)
        footer = encode(
            {
                1: (I32, 2),
                _SCHEMA: (LIST, (STRUCT, elements)),
                _ROWS: (I64, rows),
                _GROUPS: (LIST, (STRUCT, [group for group in groups if group[_GROUP_ROWS][1]])),
            }
        )
        self._out += footer + len(footer).to_bytes(4, "little") + _MAGIC
        return bytes(self._out)

    def _footer(self) -> tuple[Struct, int]:
        """The footer, and where it begins."""
        body = self._body
        if len(body) < 12 or body[:4] != _MAGIC or body[-4:] != _MAGIC:
            raise ValueError("it does not begin and end as one")
        length = int.from_bytes(body[-8:-4], "little")
        if length > _FOOTER_BYTES_MAX:
            raise self._too_large(length, _FOOTER_BYTES_MAX, "bytes of footer")
        start = len(body) - 8 - length
        if start < 4:
            raise ValueError("its footer is cut off")
        tree, _ = decode_at(body[start:-8], 0)
        if _ENCRYPTION in tree:
            raise ValueError("it is encrypted")
        return tree, start

    def _group(self, group: Struct, found: list[Leaf]) -> Struct:
        rows, chunks = whole(group, _GROUP_ROWS, I64), structs(group, _COLUMNS)
        self._rows += rows
        if self._rows > self._rows_max:
            raise self._too_large(self._rows, self._rows_max, "rows")
        if len(chunks) != len(found):
            raise ValueError("a row group has other columns than the schema")
        metas = [
            _Chunk(self, self._meta(chunk), leaf, rows).rewritten() if rows else {}
            for chunk, leaf in zip(chunks, found, strict=True)
        ]
        return {
            _COLUMNS: (LIST, (STRUCT, [{2: (I64, 0), _META: (STRUCT, meta)} for meta in metas])),
            _GROUP_BYTES: (I64, sum(meta[_PLAIN_BYTES][1] for meta in metas) if rows else 0),
            _GROUP_ROWS: (I64, rows),
        }

    def _meta(self, chunk: Struct) -> Struct:
        if _FILE_PATH in chunk or any(field in chunk for field in _CRYPTO):
            raise ValueError("a column is in another file, or encrypted")
        kind, meta = chunk[_META]
        if kind != STRUCT:
            raise ValueError("a column is not described")
        found: Struct = meta
        return found

    def extent(self, start: int, size: int) -> int:
        """Where a chunk ends. Raises ValueError: not in the file."""
        if start < 4 or start + size > self._end:
            raise ValueError("a column lies outside of the file")
        return start + size

    def header_at(self, at: int, end: int) -> tuple[Struct, bytes, int]:
        """A page's header, its bytes, and where it ends; its size is counted."""
        self._pages += 1
        if self._pages > _PAGES_MAX:
            raise self._too_large(self._pages, _PAGES_MAX, "pages")
        header, at = decode_at(self._body, at)
        packed, unpacked = whole(header, _PACKED, I32), whole(header, _UNPACKED, I32)
        self._unpacked += unpacked
        if self._unpacked > self._bytes_max:
            raise self._too_large(self._unpacked, self._bytes_max, "bytes of pages")
        if at + packed > end:
            raise ValueError("a page is cut off")
        return header, self._body[at : at + packed], at + packed

    def hold(self, size: int) -> None:
        """Count what values take in memory. Raises TooLarge."""
        self._memory += size
        if self._memory > self._bytes_max:
            raise self._too_large(self._memory, self._bytes_max, "bytes of values")

    def longest(self, words: bytes, count: int) -> int:
        """The length of the longest of `count` texts; a bound where there are many."""
        if count > self._words_left:
            return len(words)
        self._words_left -= count
        at = longest = 0
        for _ in range(count):
            length = int.from_bytes(words[at : at + 4], "little")
            longest = max(longest, length)
            at += 4 + length
        if at > len(words):
            raise ValueError("a dictionary is cut off")
        return longest

    def write(self, header: Struct, page: bytes) -> None:
        self._out += encode(header)
        self._out += page

    @property
    def place(self) -> int:
        return len(self._out)

    def _too_large(self, found: int, limit: int, unit: str) -> TooLarge:
        return TooLarge(
            f"The Parquet body stands for {found} {unit} or more; the limit is {limit}. Send it "
            f"in parts.",
            limit=limit,
            found=found,
            unit=unit,
        )


@dataclass(slots=True)
class _Chunk:
    """One leaf's values of one row group."""

    file: _File
    meta: Struct
    leaf: Leaf
    rows: int
    seen: int = 0
    longest: int = -1
    """Of the dictionary's values; -1: there is none."""
    unpacked: int = 0

    def rewritten(self) -> Struct:
        """Write its pages; what the footer says of them."""
        meta, file = self.meta, self.file
        if whole(meta, _TYPE, I32) != self.leaf.kind:
            raise ValueError("a column has another type than its schema")
        codec, values = whole(meta, _CODEC, I32), whole(meta, _VALUES, I64)
        if codec not in _CODECS:
            raise ValueError(f"the compression number {codec} is not one that we read")
        if values < self.rows or (values > self.rows and not self.leaf.is_repeated):
            raise ValueError("a column has not as many values as there are rows")
        at = whole(meta, _DATA, I64)
        dictionary = meta[_DICTIONARY][1] if _DICTIONARY in meta else 0
        if isinstance(dictionary, int) and 0 < dictionary < at:
            at = dictionary
        end = file.extent(at, whole(meta, _PACKED_BYTES, I64))
        first = file.place
        data_at = first
        while self.seen < values:
            if at >= end:
                raise ValueError("a column ends before its values do")
            header, page, at = file.header_at(at, end)
            kind = whole(header, _PAGE_TYPE, I32)
            if kind == _DICTIONARY_PAGE:
                self._dictionary(header, page, codec)
                data_at = file.place
            elif kind == _DATA_PAGE:
                self._data(header, page, codec, header[_V1][1])
            elif kind == _DATA_PAGE_V2:
                self._data_v2(header, page, codec, header[_V2][1])
        if self.seen != values:
            raise ValueError("a column has more values than it says")
        return self._described(codec, values, first, data_at)

    def _described(self, codec: int, values: int, first: int, data_at: int) -> Struct:
        has_words = {_DICTIONARY: (I64, first)} if self.longest >= 0 else {}
        encodings = [_PLAIN, _RLE, *([_RLE_DICTIONARY] if has_words else [])]
        return {
            _TYPE: (I32, self.leaf.kind),
            _ENCODINGS: (LIST, (I32, encodings)),
            _PATH: (LIST, (BINARY, list(self.leaf.path))),
            _CODEC: (I32, codec),
            _VALUES: (I64, values),
            _PLAIN_BYTES: (I64, self.unpacked),
            _PACKED_BYTES: (I64, self.file.place - first),
            _DATA: (I64, data_at),
            **has_words,
        }

    def _dictionary(self, header: Struct, page: bytes, codec: int) -> None:
        words, size = header[_WORDS][1], whole(header, _UNPACKED, I32)
        count, encoding = whole(words, _COUNT, I32), whole(words, _ENCODING, I32)
        if self.longest >= 0 or self.seen or encoding not in (_PLAIN, _PLAIN_DICTIONARY):
            raise ValueError("a column's dictionary is not where it belongs, or encoded strangely")
        if self.leaf.kind == BOOLEAN or count * (self.leaf.width or 4) > size:
            raise ValueError("a dictionary has more values than bytes")
        self.longest = 0
        self.file.hold(size + 16 * count)
        if self.leaf.kind == BYTE_ARRAY:
            self.longest = self.file.longest(_unpacked(page, size, codec), count)
        kept: Struct = {_COUNT: (I32, count), _ENCODING: (I32, encoding)}
        self._write(header, page, codec, _WORDS, kept, is_packed=True)

    def _data(self, header: Struct, page: bytes, codec: int, data: Struct) -> None:
        count, encoding = whole(data, _COUNT, I32), whole(data, _ENCODING, I32)
        levels = {_LEVELS: (I32, _RLE), _REPEATS: (I32, _RLE)}
        # Of a column without levels writers say anything.
        if (self.leaf.is_optional and whole(data, _LEVELS, I32) != _RLE) or (
            self.leaf.is_repeated and whole(data, _REPEATS, I32) != _RLE
        ):
            raise ValueError("levels are written in a way that is long gone")
        self._hold(count, encoding, whole(header, _UNPACKED, I32))
        kept: Struct = {_COUNT: (I32, count), _ENCODING: (I32, encoding), **levels}
        self._write(header, page, codec, _V1, kept, is_packed=True)

    def _data_v2(self, header: Struct, page: bytes, codec: int, data: Struct) -> None:
        numbers = {
            field: whole(data, field, I32)
            for field in (_COUNT, _NULLS, _PAGE_ROWS, _V2_ENCODING, _LEVEL_BYTES, _REPEAT_BYTES)
        }
        is_packed, size = flag(data, _IS_PACKED, default=True), whole(header, _UNPACKED, I32)
        level_bytes = numbers[_LEVEL_BYTES] + numbers[_REPEAT_BYTES]
        if level_bytes > min(size, len(page)) or numbers[_NULLS] > numbers[_COUNT]:
            raise ValueError("a page's header contradicts itself")
        self._hold(numbers[_COUNT], numbers[_V2_ENCODING], size)
        kept: Struct = {field: (I32, number) for field, number in numbers.items()}
        kept[_IS_PACKED] = (TRUE if is_packed else FALSE, None)
        self._write(header, page, codec, _V2, kept, is_packed=is_packed)

    def _hold(self, count: int, encoding: int, size: int) -> None:
        """Count the values of a page, and what they take in memory."""
        leaf = self.leaf
        if not _is_bounded(encoding, leaf.kind):
            raise ValueError(
                f"a column has the encoding number {encoding}, of which it is not known how large "
                f"it becomes; write it plain or with a dictionary"
            )
        self.seen += count
        texts = size if leaf.kind == BYTE_ARRAY else 0
        if encoding in _BY_DICTIONARY:
            if self.longest < 0:
                raise ValueError("a column has no dictionary")
            texts = count * self.longest
        # A bit says that it is there; each level of nesting has offsets, and says where rows end.
        nesting = 4 + 5 * (leaf.depth - 1) if leaf.depth > 1 or leaf.is_repeated else 0
        self.file.hold(count * (leaf.memory + 1 + nesting) + texts)

    def _write(
        self, header: Struct, page: bytes, codec: int, field: int, kept: Struct, *, is_packed: bool
    ) -> None:
        size = whole(header, _UNPACKED, I32)
        if (_CODECS[codec] is None or not is_packed) and size != len(page):
            raise ValueError("a page that is not compressed has two sizes")
        self.unpacked += size
        anew: Struct = {
            _PAGE_TYPE: (I32, whole(header, _PAGE_TYPE, I32)),
            _UNPACKED: (I32, size),
            _PACKED: (I32, len(page)),
            field: (STRUCT, kept),
        }
        self.file.write(anew, page)


def _is_bounded(encoding: int, kind: int) -> bool:
    """Whether a page of this encoding becomes no larger than its size and its values say."""
    if encoding == _RLE:
        return kind == BOOLEAN
    if encoding == _BYTE_STREAM_SPLIT:
        return kind not in (BOOLEAN, BYTE_ARRAY)
    # The rest are deltas: of texts, which repeat all that was before, and of numbers.
    return encoding == _PLAIN or (encoding in _BY_DICTIONARY and kind != BOOLEAN)


def _unpacked(page: bytes, size: int, codec: int) -> bytes:
    name = _CODECS[codec]
    if name is None:
        return page
    try:
        found: bytes = pa.Codec(name).decompress(page, decompressed_size=size, asbytes=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError("a dictionary cannot be unpacked") from error
    return found
