"""Durable appends of 1 KiB: the SQLite queue beside a bare file with fdatasync, in turns.

    python -m bench.queue_appends [--rounds 2] [--seconds 2] [--folder .]

The bare file is the physical limit: what it does for one append, nothing durable can beat; what it
does for 100 payloads in one write and one sync, no group commit of 100 can. Not called `queue.py`:
scripts in this folder would then import it in place of the standard library's `queue`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from bench.machine import describe

from neuralake.queue import SqliteQueue
from neuralake.queue.awaiting import awaited
from neuralake.telemetry import Telemetry, quantile

PAYLOAD = os.urandom(1024)
SUBMITTERS = 100
Samples = list[float]


def bare_file(folder: Path, seconds: float, *, group: int = 1) -> tuple[int, Samples]:
    """Appends of `group` payloads, each followed by fdatasync; payloads stored, seconds each."""
    samples: Samples = []
    handle = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        os.write(handle, PAYLOAD * group)
        os.fdatasync(handle)
        samples.append(time.perf_counter() - begin)
    os.close(handle)
    return len(samples) * group, samples


def one_thread(queue: SqliteQueue, seconds: float) -> tuple[int, Samples]:
    samples: Samples = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        queue.append("bench.one", PAYLOAD, 1)
        samples.append(time.perf_counter() - begin)
    return len(samples), samples


def many_threads(queue: SqliteQueue, seconds: float) -> tuple[int, Samples]:
    samples: list[Samples] = [[] for _ in range(SUBMITTERS)]
    end = time.perf_counter() + seconds

    def submitter(mine: Samples) -> None:
        while (begin := time.perf_counter()) < end:
            queue.append("bench.many", PAYLOAD, 1)
            mine.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=submitter, args=[mine]) for mine in samples]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flat = [sample for mine in samples for sample in mine]
    return len(flat), flat


def many_tasks(queue: SqliteQueue, seconds: float) -> tuple[int, Samples]:
    """As the ingest server does it: one event loop, each request awaits its future."""
    samples: Samples = []

    async def submitter(end: float) -> None:
        while (begin := time.perf_counter()) < end:
            await awaited(queue.submit("bench.many", PAYLOAD, 1))
            samples.append(time.perf_counter() - begin)

    async def run() -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(submitter(end) for _ in range(SUBMITTERS)))

    asyncio.run(run())
    return len(samples), samples


def in_flight(queue: SqliteQueue, seconds: float) -> tuple[int, Samples]:
    """One thread that never waits: what the committer can store when it is never idle."""
    count = int(20_000 * seconds)
    futures = [queue.submit("bench.flood", PAYLOAD, 1) for _ in range(count)]
    begin = time.perf_counter()
    for future in futures:
        future.result()
    return count, [time.perf_counter() - begin]


def large(queue: SqliteQueue, seconds: float) -> tuple[int, Samples]:
    """Envelopes of 1 MiB, one after the other: a bulk load."""
    samples: Samples = []
    payload = PAYLOAD * 1024
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        queue.append("bench.large", payload, 1)
        samples.append(time.perf_counter() - begin)
    queue.trim("bench.large", through=2**40, appended_before_s=float("inf"))
    return len(samples), samples


def idle_poll(queue: SqliteQueue, seconds: float) -> tuple[int, Samples]:
    samples: Samples = []
    last = queue.append("bench.one", PAYLOAD, 1).position
    end = time.perf_counter() + seconds / 4
    while (begin := time.perf_counter()) < end:
        assert queue.read("bench.one", after=last) == []
        samples.append(time.perf_counter() - begin)
    return len(samples), samples


@contextmanager
def fresh(folder: Path) -> Iterator[tuple[SqliteQueue, Telemetry]]:
    telemetry = Telemetry()
    with (
        tempfile.TemporaryDirectory(dir=folder) as below,
        closing(SqliteQueue(Path(below, "queue.sqlite"), telemetry=telemetry)) as queue,
    ):
        yield queue, telemetry


def report(name: str, count: int, samples: Samples, wall_s: float, note: str = "") -> None:
    print(
        f"{name:<34}{count / wall_s:>11,.0f}/s   p50 {quantile(samples, 0.5) * 1e3:>8.3f} ms"
        f"   p99 {quantile(samples, 0.99) * 1e3:>8.3f} ms   {note}"
    )


def timed(run: Callable[[], tuple[int, Samples]]) -> tuple[int, Samples, float]:
    begin = time.perf_counter()
    count, samples = run()
    return count, samples, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    options = parser.parse_args()
    seconds = options.seconds
    print(describe(options.folder))
    runs: list[tuple[str, Callable[[SqliteQueue, float], tuple[int, Samples]]]] = [
        ("queue, 1 thread", one_thread),
        (f"queue, {SUBMITTERS} threads", many_threads),
        (f"queue, {SUBMITTERS} tasks of one loop", many_tasks),
        ("queue, never waiting (20k/s bench)", in_flight),
        ("queue, 1 MiB envelopes", large),
        ("queue, idle poll", idle_poll),
    ]
    for number in range(options.rounds):
        print(f"round {number + 1}")
        with tempfile.TemporaryDirectory(dir=options.folder) as below:
            for group in (1, SUBMITTERS):
                count, samples, wall_s = timed(
                    partial(bare_file, Path(below), seconds, group=group)
                )
                report(f"bare file, {group} per fdatasync", count, samples, wall_s)
        for name, run in runs:
            with fresh(options.folder) as (queue, telemetry):
                count, samples, wall_s = timed(lambda: run(queue, seconds))  # noqa: B023 called at once
                commits = telemetry.counter("queue_commits")
                per_commit = telemetry.counter("queue_submits") / commits
                report(name, count, samples, wall_s, f"{per_commit:,.1f} per commit")


if __name__ == "__main__":
    main()
