"""Encode many rows on two cores: two halves at once, their row groups laid into one file.

Encoding is what a commit of many rows spends its time with, and Arrow does it on one core. The file
is one that a single pass could have written, with a row group more; nothing is decoded for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pyarrow as pa

from neuralake.delta.parquet import EncodedFile, Encoder
from neuralake.delta.row_groups import Joiner, read_footer
from neuralake.delta.statistics import combine

__all__ = ["encoded"]

# A row group of half of this is read as quickly as a larger one.
_ROWS_MIN = 200_000
_BYTES_MIN = 4 * 1024 * 1024
_POOL = ThreadPoolExecutor(2, thread_name_prefix="neuralake-encode")


def encoded(
    encoder: Encoder, rows: pa.Table, *, rows_min: int = _ROWS_MIN, bytes_min: int = _BYTES_MIN
) -> tuple[EncodedFile, memoryview]:
    """As `encoder.encode`; many rows in halves, if there is a core for each."""
    is_large = rows.num_rows >= max(2, rows_min) and rows.nbytes >= bytes_min
    if not is_large or (os.cpu_count() or 1) < 2:
        return encoder.encode(rows)
    half = rows.num_rows // 2
    other = _POOL.submit(encoder.encode, rows.slice(half))
    first = encoder.encode(rows.slice(0, half))
    return _joined([first, other.result()])


def _joined(parts: Sequence[tuple[EncodedFile, memoryview]]) -> tuple[EncodedFile, memoryview]:
    sink = BytesIO()
    joiner = Joiner(sink)
    for _, data in parts:
        file = BytesIO(data)
        footer = read_footer(file)
        assert footer is not None  # noqa: S101 we have just written it; for mypy
        joiner.add(footer, file)
    joiner.close()
    stats = combine([file.stats for file, _ in parts])
    assert stats is not None  # noqa: S101 both say their rows; for mypy
    return EncodedFile(joiner.size_bytes, joiner.rows, stats), sink.getbuffer()
