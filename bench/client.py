"""Sending events: `neuralake.ingest.Client` beside a loop of httpx requests, into one server.

    python -m bench.client [--seconds 3] [--rounds 3]

A loop that sends each event by itself with a key is what people write first, and promises what the
client does without a spool; lists of 100 are what they write next. Rates are until the last row is
acknowledged; the rows that the queue holds are counted at the end.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
from bench.flights_lake import EVENTS, catalog, process
from bench.machine import describe

from neuralake.ingest import Client

TABLE = "bench.events"
EVENT = {"device": "arm-7", "at": "2026-01-02T03:04:05.678901Z", "value": 0.125}
Send = Callable[[], int]


def rate(send: Send, finish: Callable[[], None], seconds: float) -> tuple[float, int]:
    """Rows a second, and how many they were."""
    begin, rows = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        rows += send()
    finish()
    return rows / (time.perf_counter() - begin), rows


def requests(url: str, rows: Any, count: int, seconds: float) -> tuple[float, int]:
    """A request for each `rows`, one after the other over a kept connection."""
    with httpx.Client(base_url=url) as http:

        def send() -> int:
            headers = {"idempotency-key": str(uuid.uuid4())}
            http.post("/v1/bench/events", json=rows, headers=headers).raise_for_status()
            return count

        return rate(send, lambda: None, seconds)


def client(
    url: str, rows: Any, count: int, seconds: float, spool: Path | None = None
) -> tuple[float, int]:
    with Client(url, spool=spool) as sender:

        def send() -> int:
            sender.send(TABLE, rows)
            return count

        return rate(send, sender.flush, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(describe(options.folder))
    hundred = [EVENT] * 100
    arrow = pa.table({"device": ["arm-7"] * 1000, "value": [0.125] * 1000})
    arrow = arrow.append_column("at", pa.nulls(1000, EVENTS.field("at").type))
    with tempfile.TemporaryDirectory(dir=options.folder) as below:
        folder, spool = Path(below), Path(below, "spool")
        lake = catalog(folder)
        ways: dict[str, Callable[[str, float], tuple[float, int]]] = {
            "httpx, an event a request": lambda url, s: requests(url, EVENT, 1, s),
            "httpx, 100 events a request": lambda url, s: requests(url, hundred, 100, s),
            "Client, an event a call": lambda url, s: client(url, EVENT, 1, s),
            "Client, 100 events a call": lambda url, s: client(url, hundred, 100, s),
            "Client, Arrow of 1,000": lambda url, s: client(url, arrow, 1000, s),
            "Client, spool, an event a call": lambda url, s: client(url, EVENT, 1, s, spool),
            "Client, spool, 100 events a call": lambda url, s: client(url, hundred, 100, s, spool),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        total = 0
        with process("serve", folder) as url:
            for _ in range(options.rounds):
                for name, way in ways.items():
                    found, rows = way(url, options.seconds)
                    rates[name].append(found)
                    total += rows
        assert lake.queue().bounds(TABLE).rows == total, "each row once"
        lake.queue().close()
    for name, found_rates in rates.items():
        middle, low, high = statistics.median(found_rates), min(found_rates), max(found_rates)
        print(f"  {name:<36}{middle:>12,.0f} events/s   ({low:,.0f} to {high:,.0f})")


if __name__ == "__main__":
    main()
