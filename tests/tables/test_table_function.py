"""A function under `@table` stays that function, and is a definition besides."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from neuralake.errors import UsageError
from neuralake.tables import FunctionTable, table


@table
def insertions(session: str | None = None) -> pl.LazyFrame:
    """Every electrode insertion.

    One row per thread.
    """
    return pl.LazyFrame({"session": [session]})


@table(
    name="kinds",
    owner="lab",
    data_input="the lab's Postgres",
    schema=pa.schema([("kind", pa.string())]),
    docs_args={"limit": 1},
)
def list_kinds(limit: int, *, sort: bool = False) -> pl.DataFrame:
    return pl.DataFrame({"kind": ["a"] * limit, "sort": [sort] * limit})


def test_it_works_bare_and_with_arguments() -> None:
    assert (insertions.name, insertions.kind) == ("insertions", "function")
    assert insertions.description == "Every electrode insertion.\n\nOne row per thread."
    assert insertions.schema is None
    assert (list_kinds.name, list_kinds.owner, list_kinds.columns) == ("kinds", "lab", ["kind"])
    assert list_kinds.table_metadata.docs_args == {"limit": 1}
    assert not insertions.is_stream


def test_called_it_is_still_the_function() -> None:
    assert insertions("s-1").collect()["session"].to_list() == ["s-1"]
    assert insertions(session="s-2").collect()["session"].to_list() == ["s-2"]
    assert list(inspect.signature(insertions).parameters) == ["session"]
    assert inspect.getdoc(insertions) == insertions.description


def test_it_can_be_pickled_although_its_name_hides_the_function() -> None:
    assert pickle.loads(pickle.dumps(insertions)) is insertions  # noqa: S301 our own bytes


def test_arguments_are_checked_against_the_signature() -> None:
    insertions.check_arguments({})
    insertions.check_arguments({"session": "s-1"})
    list_kinds.check_arguments({"limit": 3, "sort": True})

    with pytest.raises(UsageError, match=r"no argument 'sesion'. Did you mean 'session'") as caught:
        insertions.check_arguments({"sesion": "s-1"})
    assert caught.value.known == ["session"]
    with pytest.raises(UsageError, match=r"needs 'limit'; its signature is kinds\(limit: "):
        list_kinds.check_arguments({"sort": True})


def test_a_function_that_takes_anything_is_asked_nothing() -> None:
    @table
    def anything(**arguments: Any) -> pl.LazyFrame:
        return pl.LazyFrame(arguments)

    anything.check_arguments({"x": 1})
    assert anything.required == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"ownr": "lab"}, "unexpected keyword argument 'ownr'"),
        ({"schema": {"a": pl.Int8}}, "schema is a pyarrow.Schema"),
        ({"docs_args": {"y": 1}}, "takes no argument 'y'"),
        ({"name": "Bad Name"}, "Try 'bad_name'"),
    ],
    ids=str,
)
def test_a_mistake_in_the_decorator_is_refused(arguments: Any, reason: str) -> None:
    def rows(x: int = 1) -> pl.LazyFrame:
        return pl.LazyFrame({"x": [x]})

    with pytest.raises(UsageError, match=reason):
        table(**arguments)(rows)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(UsageError, match="stands above a function"):
        table(3)  # type: ignore[call-overload]  # on purpose


def test_deprecation_is_said_as_in_datarepo_too() -> None:
    @table(is_deprecated=True)
    def old() -> pl.LazyFrame:
        return pl.LazyFrame()

    assert isinstance(old, FunctionTable)
    assert old.deprecated
