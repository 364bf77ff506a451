"""Ingest: decoding alone, the acknowledgement of one event, and HTTP into Delta end to end.

    python -m bench.ingest [--folder .] [--events 1000000] [--seconds 5]

(a) decode: NDJSON, JSON and Arrow bodies of flights (19 columns) into queue envelopes, one core.
(b) acknowledge: one event per request over a kept connection, beside a bare Starlette route that
    appends the bytes to a file and syncs, in turns: the peer is what HTTP and the disk cost alone.
(c) end to end, server and writer as processes of their own with default settings: NDJSON events/s
    until the last row is in the Delta table, and the time from sending an event until the log
    says that it is committed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from bench.flights_lake import EVENTS, FLIGHTS, catalog, flights, process
from bench.machine import describe

from neuralake.catalog import Catalog
from neuralake.delta import TableLog, snapshot
from neuralake.queue.topic import app_id
from neuralake.records.decode import Decoder
from neuralake.records.encoded import encode
from neuralake.records.media_types import ARROW, JSON, NDJSON
from neuralake.settings import IngestSettings
from neuralake.telemetry import quantile

BATCH_ROWS = 10_000
SENDERS = 2
EVENT = {"device": "arm-7", "at": "2026-01-02T03:04:05.678901Z", "value": 0.125}


def decoding(lines: list[bytes]) -> None:
    """Rows a second of one core per format."""
    decoder = Decoder(FLIGHTS, name="flights", partition_by=(), limits=IngestSettings())
    ndjson = b"".join(lines)
    odd = ndjson.replace(b'"year":2013,', b'"year":2013.0,')
    bodies = {
        "NDJSON": (ndjson, NDJSON, len(lines)),
        "NDJSON, CRLF": (ndjson.replace(b"\n", b"\r\n"), NDJSON, len(lines)),
        "JSON array": (b"[" + b",".join(lines) + b"]", JSON, len(lines)),
        "Arrow": (encode(decoder.rows(ndjson, NDJSON)).payload, ARROW, len(lines)),
        "NDJSON, integers as 1.0": (odd, NDJSON, len(lines)),
        "NDJSON, one row": (lines[0], NDJSON, 1),
    }
    for name, (body, media_type, rows) in bodies.items():
        samples: list[float] = []
        end = time.perf_counter() + 1.0
        while (begin := time.perf_counter()) < end or not samples:
            assert decoder.envelope(body, media_type).rows == rows
            samples.append(time.perf_counter() - begin)
        best = min(samples)
        mib_s = len(body) / best / 2**20
        print(f"  {name:<34}{rows / best:>12,.0f} rows/s{mib_s:>9,.0f} MiB/s")


class Client:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port)

    def post(self, path: str, body: bytes, media_type: str = JSON) -> bytes:
        self._connection.request("POST", path, body=body, headers={"Content-Type": media_type})
        response = self._connection.getresponse()
        text = response.read()
        assert response.status == 202, text
        return text

    def close(self) -> None:
        self._connection.close()


def acknowledging(folder: Path, lines: list[bytes], seconds: float) -> None:
    """A single event, ours and the peer in turns; then ours beside bulk loads."""
    with process("peer", folder) as peer, process("serve", folder) as ours:
        for name, url in [("bare route + fdatasync", peer), ("neuralake", ours)] * 2:
            one_by_one(name, url, seconds)
        stop = threading.Event()
        loader = threading.Thread(target=load, args=(ours, lines, stop))
        loader.start()
        one_by_one("neuralake, beside bulk NDJSON", ours, seconds)
        stop.set()
        loader.join()


def one_by_one(name: str, url: str, seconds: float) -> None:
    body = json.dumps(EVENT).encode()
    client = Client(url)
    samples = []
    for _ in range(50):
        client.post("/v1/bench/events", body)
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        client.post("/v1/bench/events", body)
        samples.append((time.perf_counter() - begin) * 1000)
    client.close()
    print(
        f"  {name:<34}p50 {quantile(samples, 0.5):>7.2f} ms   "
        f"p99 {quantile(samples, 0.99):>7.2f} ms   {len(samples) / seconds:>8,.0f}/s"
    )


def load(url: str, lines: list[bytes], stop: threading.Event) -> None:
    """Bodies of 10,000 flights, one after the other."""
    client, body = Client(url), b"".join(lines[:BATCH_ROWS])
    while not stop.is_set():
        client.post("/v1/bench/flights", body, NDJSON)
    client.close()


def throughput(folder: Path, lines: list[bytes], events: int) -> None:
    """NDJSON bodies over a few connections until the table has every row."""
    bodies = [b"".join(lines[at : at + BATCH_ROWS]) for at in range(0, len(lines), BATCH_ROWS)]
    rows = [min(BATCH_ROWS, len(lines) - at) for at in range(0, len(lines), BATCH_ROWS)]
    work = [i % len(bodies) for i in range(events // BATCH_ROWS)]
    total = sum(rows[i] for i in work)
    lake = catalog(folder)
    uri = lake.uri_of(lake.definition("bench", "flights"))
    with process("serve", folder) as url, process("write", folder):
        await_table(uri)
        clients = [Client(url) for _ in range(SENDERS)]
        idle = list(clients)

        def send(index: int) -> None:
            client = idle.pop()
            client.post("/v1/bench/flights", bodies[index], NDJSON)
            idle.append(client)

        begin = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(send, work))
        acknowledged_s = time.perf_counter() - begin
        await_position(lake, uri, "bench.flights")
        committed_s = time.perf_counter() - begin
        for client in clients:
            client.close()
    assert snapshot(uri).rows == total
    print(
        f"  {total:,} flights: acknowledged {total / acknowledged_s:,.0f}/s, "
        f"in the Delta table {total / committed_s:,.0f}/s"
    )
    lake.queue().close()


def visibility(folder: Path, seconds: float) -> None:
    """From sending one event until the log of the table holds its position."""
    body = json.dumps(EVENT).encode()
    lake = catalog(folder)
    uri = lake.uri_of(lake.definition("bench", "events"))
    name = app_id(lake.queue().id, "bench.events")
    sent: dict[int, float] = {}
    samples: list[float] = []
    with process("serve", folder) as url, process("write", folder):
        await_table(uri)
        log, client, stop = TableLog.open(uri), Client(url), threading.Event()

        def watch() -> None:
            seen = 0
            while not (stop.is_set() and seen >= max(sent)):
                log.refresh()
                now, upto = time.perf_counter(), log.committed(name) or 0
                for position in range(seen + 1, upto + 1):
                    if position in sent:
                        samples.append((now - sent[position]) * 1000)
                seen = max(seen, upto)
                time.sleep(0.001)

        first = json.loads(client.post("/v1/bench/events", body))["position"]
        sent[first] = time.perf_counter()
        watcher = threading.Thread(target=watch)
        watcher.start()
        end, number = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            begin = time.perf_counter()
            # Positions count up by one here: nobody else writes to this topic.
            sent[first + number + 1] = begin
            client.post("/v1/bench/events", body)
            number += 1
            time.sleep(0.013 + 0.01 * (number % 7))
        stop.set()
        watcher.join()
        client.close()
    print(
        f"  sent → committed, {len(samples)} events: p50 {quantile(samples, 0.5):.0f} ms   "
        f"p99 {quantile(samples, 0.99):.0f} ms   max {max(samples):.0f} ms"
    )
    lake.queue().close()


def await_table(uri: str) -> None:
    while not Path(uri, "_delta_log", f"{0:020d}.json").exists():
        time.sleep(0.01)


def await_position(lake: Catalog, uri: str, topic: str) -> None:
    queue = lake.queue()
    last, log = queue.bounds(topic).last, TableLog.open(uri)
    while (log.committed(app_id(queue.id, topic)) or 0) < last:
        time.sleep(0.002)
        log.refresh()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    print(describe(options.folder))
    pa.set_cpu_count(1)
    lines = flights().head(100_000).write_ndjson().encode().splitlines(keepends=True)
    assert EVENTS.names == list(EVENT)
    print("(a) decode to an envelope, one core")
    decoding(lines[:50_000])
    with tempfile.TemporaryDirectory(dir=options.folder) as below:
        print("(b) acknowledge one event over a kept connection")
        acknowledging(Path(below), lines, options.seconds / 2)
    with tempfile.TemporaryDirectory(dir=options.folder) as below:
        print(f"(c) end to end: {BATCH_ROWS:,} events a request, {SENDERS} connections")
        throughput(Path(below), lines, options.events)
        visibility(Path(below), options.seconds)


if __name__ == "__main__":
    main()
