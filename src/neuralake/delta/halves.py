"""Encode many rows on two cores: two halves at once, their row groups laid into one file.

Encoding is what a commit of many rows spends its time with, and Arrow does it on one core. The file
is one that a single pass could have written, with a row group more; nothing is decoded for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from io import BytesIO

import pyarrow as pa

from neuralake.delta.parquet import EncodedFile, Encoder
from neuralake.delta.row_groups import Joiner, read_footer
from neuralake.delta.statistics import combine

__all__ = ["encoded"]

# A row group of half of this is read as quickly as a larger one.
_ROWS_MIN = 200_000
_BYTES_MIN = 4 * 1024 * 1024


def encoded(
    encoder: Encoder, rows: pa.Table, *, rows_min: int = _ROWS_MIN, bytes_min: int = _BYTES_MIN
) -> tuple[EncodedFile, memoryview]:
    """As `encoder.encode`; many rows in halves, if there is a core for each."""
    is_large = rows.num_rows >= max(2, rows_min) and rows.nbytes >= bytes_min
    if not is_large or (os.cpu_count() or 1) < 2:
        return encoder.encode(rows)
    half = rows.num_rows // 2
    other = _Other(encoder, rows.slice(half))
    try:
        other.start()
    except RuntimeError:  # The interpreter ends, or there may be no more threads.
        return encoder.encode(rows)
    first = encoder.encode(rows.slice(0, half))
    return _joined([first, other.result()])


class _Other(threading.Thread):
    """Encodes one half. A thread each time: one of a pool would be missing after a fork."""

    def __init__(self, encoder: Encoder, rows: pa.Table) -> None:
        super().__init__(name="neuralake-encode", daemon=True)
        self._encoder, self._rows = encoder, rows
        self._found: tuple[EncodedFile, memoryview] | BaseException | None = None

    def run(self) -> None:
        try:
            self._found = self._encoder.encode(self._rows)
        except BaseException as error:  # noqa: BLE001 the caller gets it
            self._found = error

    def result(self) -> tuple[EncodedFile, memoryview]:
        """What was encoded, or the error."""
        self.join()
        if isinstance(self._found, BaseException):
            raise self._found
        assert self._found is not None  # noqa: S101 it has ended; for mypy
        return self._found


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
