"""Many senders of single events at once: each waits for its answer, then sends the next.

    python -m bench.crowd [--senders 100] [--seconds 5] [--rounds 3]

The senders are one process of raw sockets, so that it does not cost what it measures. Beside us, in
turns: a bare Starlette route on the same server that stores nothing, and one that collects what
arrives, writes it to a file and syncs it once for all (group commit), which is the least that a
durable endpoint in that framework can do. CPU time is that of the server's process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from bench.flights_lake import child_process
from bench.machine import cpu_s, describe

from neuralake.telemetry import quantile

EVENT = {"device": "arm-7", "at": "2026-01-02T03:04:05.678901Z", "value": 0.125}


class Sender(asyncio.Protocol):
    """One kept connection with one request at a time, until `end`."""

    def __init__(self, request: bytes, end: float, samples: list[float]) -> None:
        self.request, self.end, self.samples = request, end, samples
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance.
        self.send()

    def send(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 202"), head
        self.buffer = b""
        now = time.perf_counter()
        self.samples.append((now - self.began) * 1000)
        if now < self.end:
            self.send()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed by the server"))


async def crowd(url: str, senders: int, seconds: float) -> list[float]:
    """Milliseconds of each acknowledged event."""
    import uvloop

    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    body = json.dumps(EVENT).encode()
    request = (
        b"POST /v1/bench/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
    loop, samples = asyncio.get_running_loop(), list[float]()
    end = time.perf_counter() + seconds
    protocols = [
        (await loop.create_connection(lambda: Sender(request, end, samples), host, port))[1]
        for _ in range(senders)
    ]
    await asyncio.gather(*(protocol.done for protocol in protocols))
    for protocol in protocols:
        protocol.transport.close()
    return samples


def run(url: str, senders: int, seconds: float) -> list[float]:
    import uvloop

    return uvloop.run(crowd(url, senders, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--senders", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(describe(given.folder))
    rates: dict[str, list[float]] = {}
    sides = {
        "bare route, nothing stored": "bare-peer",
        "bare route, grouped fdatasync": "grouped-peer",
        "neuralake": "serve",
    }
    with ExitStack() as stack:
        below = stack.enter_context(tempfile.TemporaryDirectory(dir=given.folder))
        servers = {
            name: stack.enter_context(child_process(part, Path(below)))
            for name, part in sides.items()
        }
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(1))
        for _ in range(given.rounds):
            for name, (url, pid) in servers.items():
                used_s = cpu_s(pid)
                samples = pool.apply(run, (url, given.senders, given.seconds))
                used_s = cpu_s(pid) - used_s
                rates.setdefault(name, []).append(len(samples) / given.seconds)
                print(
                    f"  {name:<32}{rates[name][-1]:>8,.0f} events/s   "
                    f"p50 {quantile(samples, 0.5):.1f} ms   p99 {quantile(samples, 0.99):.1f} ms   "
                    f"{used_s / len(samples) * 1e6:.0f} us of CPU each",
                    flush=True,
                )
    medians = {name: quantile(each, 0.5) for name, each in rates.items()}
    print(f"  medians: {', '.join(f'{name} {rate:,.0f}/s' for name, rate in medians.items())}")


if __name__ == "__main__":
    main()
