"""Which texts are worth a dictionary, and dictionaries that are alike wherever the texts are.

Texts that hardly repeat are larger and slower with one. Those that repeat are mostly the same few
in every file of a table: in one order, their dictionaries are the same bytes, and compaction need
not look at the numbers that stand for them (`chunks.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Dictionaries", "has_text", "repeats"]

# So many rows tell whether texts repeat.
_SAMPLE_ROWS = 512
# More texts than that are rarely all in the next file, too.
_SORTED_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Dictionaries:
    """Which columns of some rows have a dictionary."""

    paths: tuple[str, ...] = ()
    """The Parquet columns."""
    columns: Mapping[int, pa.ChunkedArray | None] | None = None
    """Those that are not part of another, by their place, with the rows that were looked at."""

    @classmethod
    def chosen(cls, rows: pa.Table, places: Sequence[int]) -> Dictionaries:
        """Those that are worth it, among the columns at `places`."""
        paths: list[str] = []
        columns: dict[int, pa.ChunkedArray | None] = {}
        for place in places:
            column, name = rows.column(place), rows.field(place).name
            if not has_text(column.type):
                paths += [path for path, texts in _below(column, name) if repeats(texts)]
                continue
            numbered = _numbered(column.slice(0, _SAMPLE_ROWS))
            if 2 * _words(numbered) <= len(numbered):
                paths.append(name)
                columns[place] = numbered if len(numbered) == len(column) else None
        return cls(tuple(paths), columns)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """What `rows` returns of rows of `schema`."""
        for place in self.columns or {}:
            field = schema.field(place)
            kind = field.type
            if not pa.types.is_dictionary(kind):
                schema = schema.set(place, field.with_type(pa.dictionary(pa.int32(), kind)))
        return schema

    def rows(self, rows: pa.Table, *, is_first: bool) -> pa.Table:
        """`rows` with the texts as numbers in one dictionary a column: sorted, if it is small.

        Args:
            is_first: they are the rows that the columns were chosen by.
        """
        if not self.columns:
            return rows
        columns = rows.columns
        for place, known in self.columns.items():
            found = known if is_first else None
            columns[place] = _sorted(_numbered(columns[place]) if found is None else found)
        return pa.table(columns, schema=self.schema(rows.schema))


def has_text(kind: pa.DataType) -> bool:
    """Whether a Parquet column of this type can have a dictionary that saves something."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_binary(kind) or types.is_dictionary(kind))


def repeats(texts: pa.ChunkedArray) -> bool:
    """Whether each of `texts` is there twice, on average: then a dictionary is worth it."""
    if not pa.types.is_dictionary(texts.type):
        texts = _numbered(texts.slice(0, _SAMPLE_ROWS))
    return 2 * _words(texts) <= len(texts)


def _below(values: pa.ChunkedArray, path: str) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """The Parquet columns of texts in a column, by path, and some of their rows."""
    if pa.types.is_struct(values.type):
        for place, field in enumerate(values.type):
            column = pc.struct_field(values.slice(0, _SAMPLE_ROWS), [place])
            yield from _below(column, f"{path}.{field.name}")
    elif pa.types.is_list(values.type):
        yield from _below(pc.list_flatten(values.slice(0, _SAMPLE_ROWS)), f"{path}.list.element")
    elif has_text(values.type):
        yield path, values


def _numbered(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()


def _words(numbered: pa.ChunkedArray) -> int:
    return max((len(chunk.dictionary) for chunk in numbered.chunks), default=0)


def _sorted(numbered: pa.ChunkedArray) -> pa.ChunkedArray:
    words = numbered.chunk(0).dictionary if numbered.num_chunks else None
    if words is None or not 1 < len(words) <= _SORTED_MAX:
        return numbered
    order = pc.array_sort_indices(words)
    place = pc.array_sort_indices(order).cast(pa.int32())
    words = words.take(order)
    chunks = [
        pa.DictionaryArray.from_arrays(place.take(chunk.indices), words)
        for chunk in numbered.chunks
    ]
    return pa.chunked_array(chunks)
