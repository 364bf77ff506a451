"""The rows of a simulation: each has a number of its own that says who made it, and its place.

A number is its maker's times a million and counts up from there, so that every table can be judged
by the numbers in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "PARTITION_BY",
    "SCHEMA",
    "SITES",
    "ids_from",
    "ids_in_file",
    "maker_of",
    "payload",
    "site_of",
    "table",
]

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string())])
PARTITION_BY = ("site",)
SITES = ("s0", "s1")
_PER_MAKER = 1_000_000


def ids_from(maker: int, first: int, count: int) -> list[int]:
    """`count` numbers of `maker`, beginning with its own number `first`."""
    return [maker * _PER_MAKER + first + i for i in range(count)]


def maker_of(number: int) -> int:
    return number // _PER_MAKER


def site_of(number: int) -> str:
    """The partition of a row: two of them, in no simple rhythm."""
    return SITES[number * 7 // 3 % 2]


def table(ids: Sequence[int]) -> pa.Table:
    return pa.table({"id": list(ids), "site": [site_of(i) for i in ids]}, schema=SCHEMA)


def payload(ids: Sequence[int]) -> bytes:
    """The rows as an envelope holds them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_table(table(ids))
    return bytes(sink.getvalue())


def ids_in_file(data: bytes) -> list[int]:
    """The numbers in a Parquet file, in its order."""
    rows = pq.ParquetFile(pa.BufferReader(data)).read(["id"], use_threads=False)
    found: list[int] = rows["id"].to_pylist()
    return found
