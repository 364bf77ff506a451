"""Parquet files in memory, with what their footers say, and tables of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from delta_tables import put_entry

from neuralake.delta import create_table, snapshot
from neuralake.delta.actions import Add
from neuralake.delta.pages import Pages
from neuralake.delta.row_groups import Footer, read_footer
from neuralake.delta.thrift import Struct, encode

__all__ = ["described", "footer", "pages_of", "parquet", "table_of"]


def parquet(rows: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, store_schema=False, **options)
    return sink.getvalue()


def footer(data: bytes) -> Footer:
    found = read_footer(io.BytesIO(data))
    assert found is not None
    return found


def described(data: bytes, change: Callable[[Struct], object]) -> bytes:
    """A file whose footer was changed."""
    tree = footer(data).tree
    change(tree)
    changed, before = encode(tree), int.from_bytes(data[-8:-4], "little")
    return data[: -8 - before] + changed + len(changed).to_bytes(4, "little") + data[-4:]


def table_of(uri: str, schema: pa.Schema, files: Sequence[bytes], rows: int) -> None:
    """A table of files of another writer, of so many rows each."""
    create_table(uri, schema)
    adds = []
    for number, data in enumerate(files):
        Path(uri, f"{number}.parquet").write_bytes(data)
        add = Add(
            path=f"{number}.parquet",
            partition_values={},
            size=len(data),
            modification_time=number,
            data_change=True,
            stats=f'{{"numRecords":{rows}}}',
        )
        adds.append(add)
    put_entry(uri, snapshot(uri).version + 1, adds)


def pages_of(files: Sequence[bytes]) -> Pages:
    found = Pages(footer(files[0]))
    for data in files:
        found.add("", footer(data), data)
    return found
