"""The check at the end: every acknowledged row is in its table exactly once.

Compared by event ids, row by row. A batch whose answer never came (its server was killed, and the
demo ended) may be in the table or not, but not twice and not in part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

__all__ = ["TableCheck", "check_table"]

_Ranges = Iterable[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TableCheck:
    """What was found in one table."""

    table: str
    acknowledged: int
    """Rows that the server said are durable."""
    rows: int
    """Rows in the table."""
    missing: int
    """Acknowledged rows that are not in the table."""
    doubled: int
    """Rows that are in the table more often than once."""
    strange: int
    """Rows in the table that were never sent, or a part of an unanswered batch."""

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, doubled or strange."""
        return not (self.missing or self.doubled or self.strange)


def check_table(
    table: str, found: pl.Series, *, acknowledged: _Ranges, unanswered: _Ranges = ()
) -> TableCheck:
    """Compare the event ids `found` in a table with the `(first_id, rows)` that were sent."""
    sure = _ids(acknowledged)
    ids = found.unique()
    extra = ids.filter(~ids.is_in(sure.implode()))
    whole = [
        (first, rows)
        for first, rows in unanswered
        if int(extra.is_between(first, first + rows - 1).sum()) == rows
    ]
    return TableCheck(
        table=table,
        acknowledged=len(sure),
        rows=len(found),
        missing=len(sure) - int(sure.is_in(ids.implode()).sum()),
        doubled=len(found) - len(ids),
        strange=len(extra) - len(_ids(whole)),
    )


def _ids(ranges: _Ranges) -> pl.Series:
    parts = [pl.int_range(first, first + rows, eager=True) for first, rows in ranges]
    return pl.concat(parts) if parts else pl.Series(dtype=pl.Int64)
