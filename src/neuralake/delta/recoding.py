"""Some columns of several small files as one Parquet file with one row group, encoded anew.

For columns whose pages cannot be laid end to end (`pages.py`). Texts that come with dictionaries
are never spelled out: the dictionaries become one, and the rows keep numbers in it, which takes a
third of the time.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from neuralake.delta.column_mapping import Columns
from neuralake.delta.decode import Decoder
from neuralake.delta.dictionaries import repeats
from neuralake.delta.parquet import Encoder, Indexed

__all__ = ["recoded"]

# The log's statistics come from the log: those of a part of the columns go nowhere.
_NO_STATISTICS = Indexed(leaves_max=0)


def recoded(
    columns: Columns,
    files: Sequence[tuple[str, bytes]],
    names: Sequence[str],
    *,
    by_dictionary: Collection[str],
) -> bytes:
    """The columns `names` (as files call them) of `files`, in order.

    Args:
        files: path and bytes of each; described as our own are.
        by_dictionary: those that have dictionaries which are worth keeping.

    Raises:
        ValueError: a file cannot be read so.
        NeedsAttention, SchemaMismatch: as of `Decoder.batches`.
    """
    pairs = [*zip(columns.logical.names, columns.physical, strict=True)]
    wanted = [(logical, field) for logical, field in pairs if field.name in names]
    texts = [field for _, field in wanted if field.name in by_dictionary and _is_text(field.type)]
    others = [logical for logical, field in wanted if field not in texts]
    found: dict[str, tuple[pa.Field, pa.ChunkedArray]] = {}
    if texts:
        rows = _with_dictionaries(files, pa.schema(texts))
        found |= {field.name: (field, rows[field.name]) for field in rows.schema}
    if others:
        part = columns.part(others)
        rows = part.to_physical(pa.concat_tables(_decoded(files, part)))
        found |= {field.name: (field, rows[field.name]) for field in part.physical}
    kept = [found[field.name] for _, field in pairs if field.name in found]
    table = pa.table([values for _, values in kept], schema=pa.schema([field for field, _ in kept]))
    sink = io.BytesIO()
    Encoder(table.schema, _NO_STATISTICS).encode_into(sink, [table])
    return sink.getvalue()


def _decoded(files: Sequence[tuple[str, bytes]], part: Columns) -> Iterator[pa.Table]:
    decoder = Decoder(part)
    for path, data in files:
        for _, batch in decoder.batches(pa.BufferReader(data), path=path):
            yield batch


def _with_dictionaries(files: Sequence[tuple[str, bytes]], schema: pa.Schema) -> pa.Table:
    """The rows of all files, with one dictionary for each column that is worth one."""
    fields = [field.with_type(pa.dictionary(pa.int32(), field.type)) for field in schema]
    tables = []
    for path, data in files:
        try:
            file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=schema.names)
            table = file.read(columns=schema.names, use_threads=False)
        except OSError as error:
            raise ValueError(f"{path} cannot be read.") from error
        if table.schema.types != [field.type for field in fields]:
            raise ValueError(f"{path} has other columns.")
        tables.append(pa.table(table.columns, schema=pa.schema(fields)))
    rows = pa.concat_tables(tables).unify_dictionaries()
    for place, field in enumerate(schema):
        if not repeats(rows[field.name]):
            rows = rows.set_column(place, field, rows[field.name].cast(field.type))
    return rows


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))
