"""What a definition says about a frame, settled when a query is planned: its schema and filters.

For frames whose columns are not ours to know before that: those of functions and foreign files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

# Not `pipe_with_schema`: Polars 2.1 replaces an error raised in it by one of the same class with
# another text, and its fields are lost.
from polars.lazyframe.resolver import LazyFrameResolver

from neuralake.errors import SchemaMismatch
from neuralake.filters import Conditions, expression
from neuralake.frame.frame import NlkDataFrame, as_frame
from neuralake.schema import polars_schema

__all__ = ["conforming", "filtered", "refuse_drift"]


def filtered(
    frame: pl.LazyFrame, conditions: Conditions, schema: pa.Schema | None, *, name: str
) -> NlkDataFrame:
    """The rows of `frame` that `conditions` keep.

    With a `schema` conditions are checked at once, else when the frame's columns are known: at
    collect, since asking for them may read files.
    """
    if not conditions:
        return as_frame(frame)
    if schema is not None:
        return as_frame(frame.filter(expression(conditions, schema, name=name)))
    return as_frame(_Filtered(frame, conditions, name).lazy())


def conforming(frame: pl.LazyFrame, schema: pa.Schema, *, name: str) -> NlkDataFrame:
    """`frame` with exactly the columns of `schema`; when planned, `refuse_drift` checks them."""
    return as_frame(_Conforming(frame, polars_schema(schema), name).lazy())


def refuse_drift(
    declared: Mapping[str, pl.DataType], found: Mapping[str, pl.DataType], *, name: str
) -> None:
    """Check that `found` has every declared column with its type; more columns are no harm.

    Raises:
        SchemaMismatch: with `column`, `declared` and `found` (None: missing).
    """
    for column, kind in declared.items():
        have = found.get(column)
        if have == kind:
            continue
        what = f"has no column {column!r}" if have is None else f"has {column!r} as {have}"
        raise SchemaMismatch(
            f"Table {name!r} {what}, but its definition declares {column!r} as {kind}. Change the "
            f"definition or the table. Columns found: {', '.join(found)}.",
            column=column,
            declared=str(kind),
            found=None if have is None else str(have),
        )


class _Filtered(LazyFrameResolver):
    def __init__(self, frame: pl.LazyFrame, conditions: Conditions, name: str) -> None:
        self.frame = frame
        self.conditions = conditions
        self.name = name

    def schema(self) -> pl.Schema:
        return self.frame.collect_schema()

    def resolve_lazyframe(self, **_: Any) -> pl.LazyFrame:
        found = self.frame.collect_schema().to_arrow()
        return self.frame.filter(expression(self.conditions, found, name=self.name))


class _Conforming(LazyFrameResolver):
    def __init__(self, frame: pl.LazyFrame, wanted: pl.Schema, name: str) -> None:
        self.frame = frame
        self.wanted = wanted
        self.name = name

    def schema(self) -> pl.Schema:
        return self.wanted

    def resolve_lazyframe(self, **_: Any) -> pl.LazyFrame:
        refuse_drift(self.wanted, self.frame.collect_schema(), name=self.name)
        return self.frame.select(self.wanted.names())
