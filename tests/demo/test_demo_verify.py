"""The check at the end finds every way in which a table can be wrong."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from neuralake.demo.verify import check_table


def ids(*numbers: int) -> pl.Series:
    return pl.Series(numbers, dtype=pl.Int64)


def test_what_was_acknowledged_is_there_once() -> None:
    check = check_table("t", ids(2, 0, 1), acknowledged=[(0, 2), (2, 1)])

    assert check.is_right
    assert (check.acknowledged, check.rows) == (3, 3)


def test_a_missing_row_is_counted() -> None:
    check = check_table("t", ids(0, 2), acknowledged=[(0, 3)])

    assert (check.missing, check.doubled, check.strange) == (1, 0, 0)
    assert not check.is_right


def test_a_doubled_row_is_counted() -> None:
    check = check_table("t", ids(0, 1, 1, 1), acknowledged=[(0, 2)])

    assert (check.missing, check.doubled, check.strange) == (0, 2, 0)


def test_a_row_that_nobody_sent_is_counted() -> None:
    check = check_table("t", ids(0, 1, 7), acknowledged=[(0, 2)])

    assert (check.missing, check.doubled, check.strange) == (0, 0, 1)


def test_an_unanswered_batch_is_there_whole_or_not_at_all() -> None:
    for found, strange in ((ids(0, 1), 0), (ids(0, 1, 2, 3), 0), (ids(0, 1, 2), 1)):
        check = check_table("t", found, acknowledged=[(0, 2)], unanswered=[(2, 2)])

        assert check.strange == strange


def test_an_empty_table_of_which_nothing_was_promised_is_right() -> None:
    assert check_table("t", ids(), acknowledged=[]).is_right


@given(st.lists(st.integers(min_value=0, max_value=30)), st.integers(min_value=0, max_value=30))
def test_it_is_right_only_if_the_table_is_what_was_promised(found: list[int], rows: int) -> None:
    check = check_table("t", ids(*found), acknowledged=[(0, rows)] if rows else [])

    assert check.is_right == (sorted(found) == list(range(rows)))
