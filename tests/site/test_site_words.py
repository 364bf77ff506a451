"""Numbers and times as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralake.site import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10k"),
        (336_776, "337k"),
        (999_499, "999k"),
        (999_600, "1M"),
        (1_234_567, "1.23M"),
        (5_000_000_000, "5B"),
        (2 * 10**15, "2,000T"),
    ],
)
def test_count(number: int, text: str) -> None:
    assert words.count(number) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1 MiB"),
        (3 * 2**30, "3 GiB"),
        (2**60, "1,024 PiB"),
    ],
)
def test_size(size: int, text: str) -> None:
    assert words.size(size) == text


def test_unknown_is_never_zero() -> None:
    assert words.count(None) == words.size(None) == words.thousands(None) == words.UNKNOWN


@given(st.integers(0, 10**16))
def test_counts_are_short_and_never_scientific(number: int) -> None:
    text = words.count(number)

    assert len(text) <= 7
    assert "e" not in text


def test_times_are_utc_whatever_the_machines_zone() -> None:
    assert words.iso_time(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert words.clock_time(1_700_000_000.9) == "14 Nov 2023, 22:13 UTC"


def test_durations_and_plurals() -> None:
    assert (words.duration_ms(200), words.duration_ms(1500)) == ("200 ms", "1.5 s")
    assert (words.plural(1, "table"), words.plural(2, "table")) == ("1 table", "2 tables")
    assert words.plural(1000, "entry", "entries") == "1,000 entries"
