"""Parquet files that stand for far more than their bytes, or lie about it.

`python parquet_bombs.py LIMIT_BYTES FOLDER` reads each file of a folder by `ParquetReader`, and
prints what came of it and how far memory grew.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neuralake.delta.thrift import BINARY, I16, I32, I64, LIST, STRUCT, Struct, encode
from neuralake.errors import NeuralakeError
from neuralake.records.parquet_body import ParquetReader

__all__ = ["bombs", "parquet"]

GIGABYTE = 2**30
_INT32, _INT64, _BYTE_ARRAY, _FIXED = 1, 2, 6, 7
_PLAIN, _RLE, _DELTA_TEXTS, _BY_DICTIONARY = 0, 3, 7, 8


def page(
    content: bytes, kind: int, details: Struct, *, packed: bytes | None = None, size: int = -1
) -> bytes:
    """A page; `size` is what it says that it becomes."""
    field = {0: 5, 2: 7, 3: 8}[kind]
    packed = content if packed is None else packed
    header: Struct = {
        1: (I32, kind),
        2: (I32, len(content) if size < 0 else size),
        3: (I32, len(packed)),
        field: (STRUCT, details),
    }
    return encode(header) + packed


def data(count: int, encoding: int) -> Struct:
    return {1: (I32, count), 2: (I32, encoding), 3: (I32, _RLE), 4: (I32, _RLE)}


def words(count: int) -> Struct:
    return {1: (I32, count), 2: (I32, _PLAIN)}


def run(count: int, value: int = 0) -> bytes:
    """A run of one index or level, of one byte."""
    out, left = bytearray(), count << 1
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left, value])


def levels(count: int, value: int) -> bytes:
    found = run(count, value)
    return len(found).to_bytes(4, "little") + found


def element(name: str, **fields: int) -> Struct:
    numbers = {"type": 1, "length": 2, "repetition": 3, "children": 5, "converted": 6}
    return {
        4: (BINARY, name.encode()),
        **{numbers[field]: (I32, value) for field, value in fields.items()},
    }


def parquet(
    chunks: Sequence[bytes],
    *,
    kind: int = _INT32,
    rows: int = 1,
    values: int | None = None,
    codec: int = 0,
    elements: Sequence[Struct] | None = None,
    groups: int = 1,
    meta: Struct | None = None,
    footer: Callable[[Struct], Struct] = lambda tree: tree,
) -> bytes:
    """A file of these column chunks, each row group the same bytes."""
    out, columns = bytearray(b"PAR1"), []
    for number, chunk in enumerate(chunks):
        found: Struct = {
            1: (I32, kind),
            2: (LIST, (I32, [_PLAIN, _RLE])),
            3: (LIST, (BINARY, [b"c%d" % number])),
            4: (I32, codec),
            5: (I64, rows if values is None else values),
            6: (I64, len(chunk)),
            7: (I64, len(chunk)),
            9: (I64, len(out)),
            **(meta or {}),
        }
        columns.append({2: (I64, 0), 3: (STRUCT, found)})
        out += chunk
    plain = [element(f"c{n}", type=kind, repetition=0) for n in range(len(chunks))]
    schema = [element("root", children=len(chunks)), *plain] if elements is None else elements
    group = {1: (LIST, (STRUCT, columns)), 2: (I64, 0), 3: (I64, rows)}
    tree = {
        1: (I32, 2),
        2: (LIST, (STRUCT, [*schema])),
        3: (I64, rows * groups),
        4: (LIST, (STRUCT, [group] * groups)),
    }
    tail = encode(footer(tree))
    return bytes(out) + tail + len(tail).to_bytes(4, "little") + b"PAR1"


def one_text(content: bytes) -> bytes:
    """A row whose text is `content`, whatever that is."""
    schema = [
        element("root", children=1),
        element("c0", type=_BYTE_ARRAY, repetition=0, converted=0),
    ]
    chunk = page(len(content).to_bytes(4, "little") + content, 0, data(1, _PLAIN))
    return parquet([chunk], kind=_BYTE_ARRAY, elements=schema)


def texts_of_one_word(count: int, word: int) -> bytes:
    """`count` rows of one text of `word` bytes."""
    content = word.to_bytes(4, "little") + b"x" * word
    first = page(content, 2, words(1))
    chunk = first + page(bytes([1]) + run(count), 0, data(count, _BY_DICTIONARY))
    return parquet([chunk], kind=_BYTE_ARRAY, rows=count)


def one_list(count: int) -> bytes:
    """A row with a list of `count` equal numbers."""
    starts = run(1, 0) + run(count - 1, 1)  # One row begins, and never ends.
    repeats = len(starts).to_bytes(4, "little") + starts
    content = repeats + levels(count, 1) + bytes([1]) + run(count)
    first = page((7).to_bytes(4, "little"), 2, words(1))
    schema = [element("root", children=1), element("c0", type=_INT32, repetition=2)]
    chunk = first + page(content, 0, data(count, _BY_DICTIONARY))
    return parquet([chunk], rows=1, values=count, elements=schema)


def nested(depth: int) -> bytes:
    inner = [element(f"g{n}", children=1, repetition=2) for n in range(depth)]
    schema = [element("root", children=1), *inner, element("c0", type=_INT32, repetition=0)]
    return parquet([page(b"\0" * 4, 0, data(1, _PLAIN))], elements=schema)


def nulls(columns: int, rows: int, width: int) -> bytes:
    """Columns in which there is nothing."""
    chunk = page(levels(rows, 0), 0, data(rows, _PLAIN))
    leaves = [element(f"c{n}", type=_FIXED, length=width, repetition=1) for n in range(columns)]
    schema = [element("root", children=columns), *leaves]
    return parquet([chunk] * columns, kind=_FIXED, rows=rows, elements=schema)


def zeros(size: int, pages: int) -> bytes:
    packed = gzip.compress(bytes(size), mtime=0)
    one = page(bytes(size), 0, data(size // 8, _PLAIN), packed=packed)
    return parquet([one * pages], kind=_INT64, rows=size // 8 * pages, codec=2)


def repeated_prefix(count: int, length: int) -> bytes:
    """Texts that are each the one before, which was long: Arrow writes them."""
    table = pa.table({"c0": ["x" * length] * count})
    sink = io.BytesIO()
    pq.write_table(table, sink, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")
    return sink.getvalue()


def numbers_of_a_lying_list(tree: Struct) -> Struct:
    """The row groups are said to be numbers, which readers that do not look take for structs."""
    return tree | {4: (LIST, (I16, [1, 2, 3]))}


_ONE = page(b"\0" * 4, 0, data(1, _PLAIN))
_MILLION = 1_000_000


def _lists_of_lists(depth: int) -> tuple[int, list[Any]]:
    found: tuple[int, list[Any]] = (I32, [0])
    for _ in range(depth):
        found = (LIST, [found])
    return found


def _in_another_file(tree: Struct) -> Struct:
    column = tree[4][1][1][0][1][1][1][0]
    column[1] = (BINARY, b"/etc/passwd")
    return tree


@cache
def bombs() -> dict[str, bytes]:
    """Each stands for a gigabyte and more, or is a lie. Made when asked for: it takes a second."""
    return {
        "a dictionary's long text in every row": texts_of_one_word(_MILLION, 100_000),
        "one list of a billion": one_list(GIGABYTE),
        "columns of nothing": nulls(200, _MILLION, 1000),
        "wide nothing": nulls(1, 1000, 2**31 - 1),
        "zeros": zeros(64 * 2**20, 15),
        "a page that says it is large": parquet(
            [page(b"", 0, data(1, _PLAIN), packed=gzip.compress(b""), size=2**31 - 1)], codec=2
        ),
        "a dictionary that says it is large": parquet(
            [
                page(b"\0" * 4, 2, words(2**31 - 1))
                + page(b"\1" + run(1), 0, data(1, _BY_DICTIONARY))
            ]
        ),
        "texts of their prefixes": repeated_prefix(50, _MILLION),
        "many row groups": parquet([_ONE], groups=30_000),
        "many pages": parquet([_ONE * 30_000], rows=30_000),
        "deep nesting": nested(3000),
        "more values than rows": parquet([_ONE], values=2**40),
        "more rows than values": parquet([_ONE], rows=2**40, values=1),
        "a page of more values": parquet([page(b"\0" * 4, 0, data(2**31 - 1, _PLAIN))]),
        "a chunk behind the file": parquet([_ONE], meta={9: (I64, 2**62)}),
        "a chunk before the file": parquet([_ONE], meta={9: (I64, -5)}),
        "numbers of another type": parquet([_ONE], meta={5: (I32, 1)}),
        "a list of another type": parquet([_ONE], footer=numbers_of_a_lying_list),
        "lists of lists": parquet(
            [_ONE], footer=lambda tree: tree | {9: (LIST, _lists_of_lists(400))}
        ),
        "an encrypted file": parquet([_ONE], footer=lambda tree: tree | {8: (STRUCT, {})}),
        "another file's column": parquet([_ONE], footer=_in_another_file),
        "no columns": parquet([], rows=_MILLION),
    }


def reader(bytes_max: int) -> ParquetReader:
    schema = pa.schema([("c0", pa.string())])
    return ParquetReader(schema, name="lab.t", rows_max=_MILLION, bytes_max=bytes_max)


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _try(found: ParquetReader, body: bytes) -> str:
    try:
        return f"{found.table(body).num_rows} rows"
    except NeuralakeError as error:
        return f"{type(error).__name__}: {error.message}"


if __name__ == "__main__":
    found, told = reader(int(sys.argv[1])), dict[str, Any]()
    _try(found, parquet([_ONE]))  # Whatever is loaded once.
    for path in sorted(Path(sys.argv[2]).iterdir()):
        body = path.read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
        before = _peak_bytes()
        said = _try(found, body)
        told[path.name] = {"said": said, "grown_bytes": _peak_bytes() - before}
    print(json.dumps(told))
