"""Memory of every part over time, while senders give all that is taken.

    python -m bench.soak [--folder .] [--minutes 30]

Server, writer and compaction as processes of their own with default settings; two connections send
NDJSON of 10,000 flights, one body after the other. Resident memory of each part is looked at every
five seconds. The first two minutes are the start (caches, heaps, the first checkpoints); from then
on each tenth of the time has a median. In the end all rows are counted.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]  # It ships none.
from bench.flights_lake import catalog, flights, process
from bench.machine import describe

from neuralake.delta import snapshot
from neuralake.records.media_types import NDJSON

BATCH_ROWS = 10_000
SENDERS = 2
LOOK_S = 5.0
START_S = 120.0
MIB = 2**20


class Load:
    """Senders that wait when they are told to, and count what was acknowledged."""

    def __init__(self, url: str, body: bytes) -> None:
        self.rows = 0
        self._netloc, self._body = urlsplit(url).netloc, body
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        while not self._stop.is_set():
            connection.request("POST", "/v1/bench/flights", self._body, {"Content-Type": NDJSON})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 429:  # The writer is behind: this is what full rate means.
                self._stop.wait(float(answer.headers["Retry-After"]))
                continue
            assert answer.status == 202, text
            with self._lock:
                self.rows += BATCH_ROWS
        connection.close()


def looks(load: Load, minutes: float) -> dict[str, list[tuple[float, float]]]:
    """`(seconds, MiB)` of each part, until the time is up."""
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    begin = time.monotonic()
    while (at_s := time.monotonic() - begin) < minutes * 60:
        for child in psutil.Process().children():
            command = child.cmdline()
            if "bench.flights_lake" in command:
                held = child.memory_info().rss / MIB
                found[command[command.index("bench.flights_lake") + 1]].append((at_s, held))
        if int(at_s / 60) != int((at_s - LOOK_S) / 60):
            held_now = ", ".join(f"{part} {seen[-1][1]:,.0f} MiB" for part, seen in found.items())
            print(
                f"  minute {at_s / 60:>3.0f}: {load.rows / 1e6:>7.1f}M rows, {held_now}", flush=True
            )
        time.sleep(LOOK_S)
    return found


def report(found: dict[str, list[tuple[float, float]]], minutes: float) -> None:
    print(f"  {'part':<10}{'medians of tenths, MiB':<60}{'spread':>12}")
    start_s = min(START_S, minutes * 60 / 5)
    for part, seen in found.items():
        steady = [held for at_s, held in seen if at_s >= start_s]
        size = max(1, len(steady) // 10)
        medians = [statistics.median(steady[at : at + size]) for at in range(0, len(steady), size)]
        medians = medians[:10]
        middle = statistics.median(medians)
        spread = max(max(medians) / middle - 1, 1 - min(medians) / middle)
        shown = " ".join(f"{median:,.0f}" for median in medians)
        print(f"  {part:<10}{shown:<60}{'±' + format(spread, '.0%'):>12}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    print(describe(options.folder))
    body = flights().head(BATCH_ROWS).write_ndjson().encode()
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as parts:
        folder = Path(name)
        lake = catalog(folder)
        url = parts.enter_context(process("serve", folder))
        parts.enter_context(process("write", folder))
        parts.enter_context(process("compact", folder))
        load = Load(url, body)
        found = looks(load, options.minutes)
        load.end()
        uri = lake.uri_of(lake.definition("bench", "flights"))
        while (rows := snapshot(uri).rows or 0) < load.rows:
            time.sleep(1.0)
        assert rows == load.rows
        report(found, options.minutes)
        rate = load.rows / options.minutes / 60
        print(f"  {load.rows:,} rows acknowledged and in the table, {rate:,.0f} a second")


if __name__ == "__main__":
    main()
