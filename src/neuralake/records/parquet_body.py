"""A Parquet file as a body becomes rows of the declared schema; nothing in it is trusted.

What it stands for is bounded by its page headers before Arrow decodes a value (`parquet_pages`),
and values are validated as those of an Arrow stream.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from neuralake.errors import UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.records.parquet_pages import rewritten

__all__ = ["ParquetReader"]


class ParquetReader(ArrowReader):
    """Reads Parquet bodies of one table. Use it from any thread."""

    def table(self, body: bytes) -> pa.Table:
        """What is in `body`, validated but with the columns that it has.

        Raises:
            UsageError: not a Parquet file, damaged, or written in a way that cannot be bounded.
            TooLarge: more rows than the limit, or more bytes once decoded.
        """
        try:
            whole = rewritten(body, rows_max=self._rows_max, bytes_max=self._bytes_max)
            with pq.ParquetFile(
                pa.BufferReader(whole), pre_buffer=False, arrow_extensions_enabled=False
            ) as file:
                table = file.read(use_threads=False)
            table.schema.names  # noqa: B018 raises here, and not later, if a name is no UTF-8
            table.validate(full=True)
            self._measure(table, self._bytes_max)
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise _damaged(error) from error
        return table


def _damaged(error: BaseException) -> UsageError:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"The body is not a Parquet file that can be read: {said}.", reason="not a Parquet file"
    )
