"""The frame that users hold: a Polars `LazyFrame` that stays ours through every operation.

Polars gives the subclass back from its own methods, except from group-by, `sql` and
`match_to_schema`, and not from functions such as `pl.concat` (seen in 2.1): those are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import polars as pl
import pyarrow as pa
from polars.lazyframe.group_by import LazyGroupBy

from neuralake.errors import UsageError

__all__ = ["NlkDataFrame", "as_frame", "concat"]


class NlkDataFrame(pl.LazyFrame):
    """A `polars.LazyFrame` with the same methods; what they return is an `NlkDataFrame` too."""

    def group_by(self, *by: Any, **options: Any) -> LazyGroupBy:
        return _GroupBy(super().group_by(*by, **options).lgb)

    def group_by_dynamic(self, *index: Any, **options: Any) -> LazyGroupBy:
        return _GroupBy(super().group_by_dynamic(*index, **options).lgb)

    def rolling(self, *index: Any, **options: Any) -> LazyGroupBy:
        return _GroupBy(super().rolling(*index, **options).lgb)

    def match_to_schema(self, *schema: Any, **options: Any) -> NlkDataFrame:
        return _ours(super().match_to_schema(*schema, **options))

    def sql(self, query: str, **options: Any) -> NlkDataFrame:
        return _ours(super().sql(query, **options))


class _GroupBy(LazyGroupBy):
    """Polars' group-by; all its other answers are made by these four."""

    def agg(self, *aggs: Any, **named_aggs: Any) -> NlkDataFrame:
        return _ours(super().agg(*aggs, **named_aggs))

    def map_groups(
        self, function: Callable[[pl.DataFrame], pl.DataFrame], schema: Any
    ) -> NlkDataFrame:
        return _ours(super().map_groups(function, schema))

    def head(self, n: int = 5) -> NlkDataFrame:
        return _ours(super().head(n))

    def tail(self, n: int = 5) -> NlkDataFrame:
        return _ours(super().tail(n))


def as_frame(rows: Any, *, name: str = "table") -> NlkDataFrame:
    """`rows` (a Polars frame, lazy or not, or an Arrow table) as an `NlkDataFrame`.

    Raises:
        UsageError: it is something else; the message says what.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    elif isinstance(rows, pa.RecordBatchReader):
        rows = rows.read_all()
    if isinstance(rows, pa.Table):
        rows = pl.from_arrow(rows)
    if isinstance(rows, (pl.DataFrame, pl.LazyFrame)):
        return _ours(rows.lazy())
    raise UsageError(
        f"{name!r} gave {type(rows).__name__}; return a Polars LazyFrame or DataFrame, or an "
        f"Arrow table.",
        found=type(rows).__name__,
    )


def concat(frames: Iterable[pl.LazyFrame], **options: Any) -> NlkDataFrame:
    """`polars.concat` of lazy frames, with its options, as an `NlkDataFrame`."""
    return _ours(pl.concat(list(frames), **options))


def _ours(frame: pl.LazyFrame) -> NlkDataFrame:
    if isinstance(frame, NlkDataFrame):
        return frame
    return cast("NlkDataFrame", NlkDataFrame._from_pyldf(frame._ldf))
