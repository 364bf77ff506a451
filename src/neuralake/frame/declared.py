"""What a definition says about a frame: its filters and its schema, both settled when planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

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

    def keep(rows: pl.LazyFrame, found: Any) -> pl.LazyFrame:
        # Polars hands over a plain dict, whatever its signature says.
        return rows.filter(expression(conditions, pl.Schema(found).to_arrow(), name=name))

    return as_frame(frame.pipe_with_schema(keep))


def conforming(frame: pl.LazyFrame, schema: pa.Schema, *, name: str) -> NlkDataFrame:
    """`frame` with exactly the columns of `schema`; when planned, `refuse_drift` checks them."""
    wanted = polars_schema(schema)

    def enforce(rows: pl.LazyFrame, found: Any) -> pl.LazyFrame:
        refuse_drift(wanted, found, name=name)
        return rows.select(wanted.names())

    return as_frame(frame.pipe_with_schema(enforce))


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
