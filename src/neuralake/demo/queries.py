"""The three ways to read, shown on what the demo has just written: frame, live frame, SQL."""

from __future__ import annotations

import contextlib
import http.client
import math
from dataclasses import dataclass

import polars as pl

from neuralake.catalog import Catalog
from neuralake.client.asking import Asker
from neuralake.client.connection import Connection
from neuralake.clock import Clock, SystemClock
from neuralake.demo.neural import NeuralSession
from neuralake.errors import NeedsAttention
from neuralake.filters import Filter

__all__ = ["Answer", "busiest_airports", "decode_directions", "most_delayed_airlines"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, the code that asks it, and the rows that came."""

    title: str
    code: str
    rows: pl.DataFrame


def busiest_airports(catalog: Catalog, month: str) -> Answer:
    """A lazy frame: filter and columns reach the files."""
    flights = catalog.db("air").table("flights", Filter("month", "=", month))
    departures = (
        flights.group_by("origin")
        .agg(
            pl.len().alias("departures"),
            pl.col("departure_delay_min").mean().round(1).alias("mean_delay_min"),
            pl.col("is_cancelled").sum().alias("cancelled"),
        )
        .sort("departures", descending=True)
    )
    return Answer(
        title="A frame (Polars, lazy)",
        code=f'catalog.db("air").table("flights", Filter("month", "=", "{month}"))\n'
        '    .group_by("origin").agg(...)',
        rows=departures.collect(),
    )


def decode_directions(catalog: Catalog, session: NeuralSession) -> Answer:
    """A live frame: where does each channel point? Compared with what the simulation knows."""
    neural = catalog.db("neural")
    moves = neural.table("cursor", live=True).select("bin", "vx", "vy")
    spikes = neural.table("spikes", live=True).select("bin", "channel", "count")
    # The velocity at which a channel fires, averaged over its spikes, points where it is tuned to;
    # the mean velocity is taken off, because reaches and rests are not balanced in a short session.
    rate = pl.col("count") - pl.col("count").mean().over("channel")
    tuned = (
        spikes.join(moves, on="bin")
        .with_columns(rate.alias("rate"))
        .group_by("channel")
        .agg(
            pl.col("count").sum().alias("spikes"),
            pl.arctan2((pl.col("rate") * pl.col("vy")).sum(), (pl.col("rate") * pl.col("vx")).sum())
            .degrees()
            .alias("decoded_deg"),
        )
        .sort("channel")
        .collect()
    )
    true_deg = [math.degrees(angle) for angle in session.preferred_rad]
    errors = tuned.with_columns(
        pl.col("channel").replace_strict(dict(enumerate(true_deg))).alias("true_deg")
    ).with_columns(
        ((pl.col("decoded_deg") - pl.col("true_deg") + 180) % 360 - 180).abs().alias("off_by_deg")
    )
    return Answer(
        title="Two live frames, joined: in which direction does each of 256 channels fire most?",
        code='catalog.db("neural").table("spikes", live=True).join(\n'
        '    catalog.db("neural").table("cursor", live=True), on="bin")',
        rows=errors.select(
            pl.len().alias("channels"),
            pl.col("spikes").sum(),
            pl.col("off_by_deg").median().round(1).alias("median_off_by_deg"),
            (pl.col("off_by_deg") < 30).mean().round(3).alias("share_within_30_deg"),
        ),
    )


_ASK_S_MAX = 30.0

_SQL = """\
SELECT a.name AS airline, count(*) AS departures, round(avg(f.departure_delay_min), 1) AS mean_delay
FROM air.flights f JOIN air.airlines a ON f.carrier = a.carrier
GROUP BY a.name ORDER BY mean_delay DESC LIMIT 5"""


def most_delayed_airlines(url: str, *, clock: Clock | None = None) -> Answer:
    """SQL over HTTP, a Delta table joined with a Parquet table.

    Asked again for a while if there is no answer: the server may have just been killed.

    Raises:
        NeedsAttention: the server refused it.
        Unavailable: it gave no answer for too long.
    """
    clock = clock or SystemClock()
    asker = Asker(
        lambda: Connection(url, clock=clock),
        clock=clock,
        give_up_s=_ASK_S_MAX,
        is_again=lambda answer: answer.status >= http.client.INTERNAL_SERVER_ERROR,
    )
    with contextlib.closing(asker):
        answer = asker.ask("POST", "/api/sql", _SQL.encode(), {"Accept": "text/csv"})
    if not answer.is_good:
        raise NeedsAttention(
            f"The server did not answer the query: {answer.status} {answer.body.decode()[:500]}",
            status=answer.status,
        )
    return Answer(
        title="SQL over HTTP",
        code=f"curl {url}/api/sql -H 'Content-Type: text/plain' -H 'Accept: text/csv' -d \"\n"
        f'{_SQL}"',
        rows=pl.read_csv(answer.body),
    )
