"""Which texts are worth a dictionary, and dictionaries that are alike wherever the texts are.

Texts that hardly repeat are larger and slower with one. Those that repeat are mostly the same few
in every file of a table: in one order, their dictionaries are the same bytes, and compaction need
not look at the numbers that stand for them (`chunks.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["has_text", "repeats", "texts_in", "with_dictionaries"]

# So many rows tell whether texts repeat.
_SAMPLE_ROWS = 2_048
# More texts than that are rarely all in the next file, too.
_SORTED_MAX = 1_024


def has_text(kind: pa.DataType) -> bool:
    """Whether a Parquet column of this type can have a dictionary that saves something."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_binary(kind) or types.is_dictionary(kind))


def texts_in(rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """The Parquet columns of texts below the columns of `rows`, by path, and some of their rows."""
    for field, column in zip(rows.schema, rows.columns, strict=True):
        yield from _below(column.slice(0, _SAMPLE_ROWS), field.name)


def repeats(texts: pa.ChunkedArray) -> bool:
    """Whether each of `texts` is there twice, on average: then a dictionary is worth it."""
    if pa.types.is_dictionary(texts.type):
        return 2 * _distinct(texts) <= len(texts)
    sample = texts.slice(0, _SAMPLE_ROWS)
    return bool(2 * pc.count_distinct(sample).as_py() <= len(sample))


def with_dictionaries(rows: pa.Table, names: Collection[str]) -> pa.Table:
    """`rows` with the texts of the columns `names` as numbers in one dictionary of each column.

    A dictionary of few texts is sorted.
    """
    for place, name in enumerate(rows.column_names):
        if name in names:
            column = _sorted(rows[name])
            rows = rows.set_column(place, rows.schema.field(place).with_type(column.type), column)
    return rows


def _below(values: pa.ChunkedArray, path: str) -> Iterator[tuple[str, pa.ChunkedArray]]:
    if pa.types.is_struct(values.type):
        for place, field in enumerate(values.type):
            yield from _below(pc.struct_field(values, [place]), f"{path}.{field.name}")
    elif pa.types.is_list(values.type):
        yield from _below(pc.list_flatten(values), f"{path}.list.element")
    elif has_text(values.type):
        yield path, values


def _distinct(texts: pa.ChunkedArray) -> int:
    return max((len(chunk.dictionary) for chunk in texts.chunks), default=0)


def _sorted(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts, spelled out or with one dictionary, with a sorted one if it is small."""
    numbered = texts if pa.types.is_dictionary(texts.type) else pc.dictionary_encode(texts)
    if not numbered.num_chunks or len(words := numbered.chunk(0).dictionary) > _SORTED_MAX:
        return numbered
    order = pc.sort_indices(words)
    place = pc.sort_indices(order).cast(pa.int32())
    words = words.take(order)
    chunks = [
        pa.DictionaryArray.from_arrays(place.take(chunk.indices), words)
        for chunk in numbered.chunks
    ]
    return pa.chunked_array(chunks)
