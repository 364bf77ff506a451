"""An `NlkDataFrame` is a LazyFrame, and stays ours through every operation."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from neuralake.errors import UsageError
from neuralake.frame import NlkDataFrame, concat
from neuralake.frame.frame import as_frame

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def frame() -> NlkDataFrame:
    return as_frame(
        pl.DataFrame(
            {
                "at": [START + timedelta(minutes=n) for n in range(4)],
                "site": ["a", "a", "b", "b"],
                "n": [1, 2, 3, 4],
                "tags": [[1], [2, 3], [4], [5]],
                "pose": [{"x": 1}, {"x": 2}, {"x": 3}, {"x": 4}],
            }
        )
    )


OPERATIONS: dict[str, Callable[[NlkDataFrame], Any]] = {
    "filter": lambda f: f.filter(pl.col("n") > 1),
    "select": lambda f: f.select("n"),
    "with_columns": lambda f: f.with_columns(m=pl.col("n") * 2),
    "with_row_index": lambda f: f.with_row_index(),
    "sort": lambda f: f.sort("n"),
    "head": lambda f: f.head(2),
    "tail": lambda f: f.tail(2),
    "slice": lambda f: f.slice(1, 2),
    "join": lambda f: f.join(f, on="n"),
    "join_asof": lambda f: f.join_asof(f, on="at"),
    "join plain": lambda f: f.join(pl.LazyFrame({"n": [1]}), on="n"),
    "explode": lambda f: f.explode("tags"),
    "unnest": lambda f: f.unnest("pose"),
    "unique": lambda f: f.unique("site"),
    "drop": lambda f: f.drop("n"),
    "rename": lambda f: f.rename({"n": "m"}),
    "cast": lambda f: f.cast({"n": pl.Int8}),
    "fill_null": lambda f: f.fill_null(0),
    "unpivot": lambda f: f.unpivot("n", index="site"),
    "reverse": lambda f: f.reverse(),
    "shift": lambda f: f.shift(1),
    "sum": lambda f: f.select("n").sum(),
    "lazy": lambda f: f.lazy(),
    "clone": lambda f: f.clone(),
    "cache": lambda f: f.cache(),
    "pipe": lambda f: f.pipe(lambda g: g.head(1)),
    "pipe_with_schema": lambda f: f.pipe_with_schema(lambda g, _: g.head(1)),
    "map_batches": lambda f: f.map_batches(lambda d: d),
    "match_to_schema": lambda f: f.select("n").match_to_schema({"n": pl.Int64}),
    "sql": lambda f: f.sql("SELECT n FROM self"),
    "top_k": lambda f: f.top_k(1, by="n"),
    "merge_sorted": lambda f: f.merge_sorted(f, key="n"),
    "update": lambda f: f.select("n").update(pl.LazyFrame({"n": [9]})),
    "clear": lambda f: f.clear(),
    "group_by agg": lambda f: f.group_by("site").agg(pl.col("n").sum()),
    "group_by named": lambda f: f.group_by(s="site", maintain_order=True).agg(m=pl.col("n").max()),
    "group_by having": lambda f: f.group_by("site").having(pl.len() > 1).agg(pl.col("n")),
    "group_by len": lambda f: f.group_by("site").len(),
    "group_by sum": lambda f: f.select("site", "n").group_by("site").sum(),
    "group_by mean": lambda f: f.select("site", "n").group_by("site").mean(),
    "group_by head": lambda f: f.group_by("site").head(1),
    "group_by tail": lambda f: f.group_by("site").tail(1),
    "group_by map_groups": lambda f: (
        f.select("site", "n")
        .group_by("site")
        .map_groups(lambda d: d, {"site": pl.String, "n": pl.Int64})
    ),
    "group_by_dynamic": lambda f: f.group_by_dynamic("at", every="2m").agg(pl.col("n").sum()),
    "rolling": lambda f: f.rolling("at", period="2m").agg(pl.col("n").sum()),
    "concat": lambda f: concat([f, f]),
    "concat plain": lambda f: concat([pl.LazyFrame({"n": [1]}), f.select("n")]),
    "concat diagonal": lambda f: concat([f, f.drop("n")], how="diagonal"),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda f: pickle.loads(pickle.dumps(f)),  # noqa: S301 our own bytes
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_it_stays_ours_and_answers_as_polars(
    frame: NlkDataFrame, operation: Callable[[NlkDataFrame], Any]
) -> None:
    plain = pl.LazyFrame._from_pyldf(frame._ldf)

    ours = operation(frame)

    assert type(ours) is NlkDataFrame
    columns = ours.collect_schema().names()
    expected = operation(plain).select(columns).collect()  # type: ignore[arg-type]  # on purpose
    assert ours.collect().sort(columns[0]).equals(expected.sort(columns[0]))


def test_no_method_is_narrower_than_the_one_of_polars() -> None:
    """What we override takes whatever Polars takes; the names are checked by Polars itself."""
    for name in ("group_by", "group_by_dynamic", "rolling", "match_to_schema"):
        kinds = {p.kind for p in inspect.signature(getattr(NlkDataFrame, name)).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD in kinds


@pytest.mark.parametrize(
    "rows",
    [
        pl.DataFrame({"n": [1]}),
        pl.LazyFrame({"n": [1]}),
        pa.table({"n": [1]}),
        pa.table({"n": [1]}).to_batches()[0],
        pa.table({"n": [1]}).to_reader(),
        as_frame(pl.DataFrame({"n": [1]})),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_of_every_accepted_kind_become_a_frame(rows: Any) -> None:
    assert as_frame(rows).collect()["n"].to_list() == [1]


def test_what_holds_no_rows_is_refused_by_its_type() -> None:
    with pytest.raises(UsageError, match="'kinds' gave dict; return a Polars LazyFrame"):
        as_frame({"n": [1]}, name="kinds")
