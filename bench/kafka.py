"""From Kafka into a Delta table: events a second and CPU seconds, beside two loops in Python.

Run it as `PYTHONPATH=tests/support python -m bench.kafka`. The broker is a real one on this machine
(Java and Maven, see `make test-services`) and takes its share of the cores. Events are JSON of some
200 bytes. CPU seconds are those of the processes that consume, with the client library's threads.
Sides alternate; the median run counts, and of each two in a round the median ratio.

- Ours is the writer as `neuralake write` runs it, in processes of its own, each commit durable and
  the position in it. It is done when the table's log says so; every event is then looked for.
- The bare loop, which is the floor, consumes 10,000 messages at a time, reads them with Polars and
  writes Parquet to memory: it commits nothing, and a message that does not fit would end it.
- The peer is what one would write: the same, with `pyarrow.json` and `write_deltalake` on a kept
  handle. It does not sync, and repeats or loses rows when it is killed.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from statistics import median
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.json as pj
from bench.machine import describe
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka_server import KafkaServer, kafka_server

import neuralake as nl
from neuralake.delta import TableLog, create_table
from neuralake.queue.topic import app_id
from neuralake.settings import KafkaSettings, LakeSettings, Settings
from neuralake.writer import run_writer

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("session", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("channel", pa.int32()),
        ("count", pa.int16()),
        ("value", pa.float64()),
        ("note", pa.string()),
    ]
)
TOPIC = "bench.events"
OURS = "neuralake, 1 partition, 1 writer"
# Fork and the libraries' threads do not go together.
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Run:
    """One drain of the topic."""

    events: int
    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        per_million = self.cpu_s / self.events * 1e6
        return f"{self.events / self.wall_s:>9,.0f} events/s  {per_million:5.2f} CPU-s per million"


def event(number: int) -> bytes:
    second = number // 10 % 86_400
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    fields = {
        "id": number,
        "session": f"session-{number % 50:03d}",
        "time": f"2026-01-01T{clock}.{number % 1_000_000:06d}Z",
        "channel": number % 1024,
        "count": number % 7,
        "value": number % 9973 * 0.001,
        "note": "x" * 80,
    }
    return json.dumps(fields).encode()


def fill(server: KafkaServer, events: int, partitions: int) -> str:
    topic = server.make_topic(partitions)
    producer = Producer({"bootstrap.servers": server.address, "linger.ms": 50})
    for number in range(events):
        while True:
            try:
                producer.produce(topic, event(number), partition=number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    return topic


def catalog(root: str, brokers: str, topic: str) -> nl.Catalog:
    table = nl.DeltaTable(
        name="events",
        uri="events",
        schema=SCHEMA,
        stream=nl.Stream(kafka=nl.KafkaTopic(topic)),
    )
    settings = Settings(
        lake=LakeSettings(root=root), kafka=KafkaSettings(brokers=brokers, group=Path(root).name)
    )
    return nl.Catalog({"bench": [table]}, settings)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write(root: str, brokers: str, topic: str, go: Any, done: Any, answers: Queue[float]) -> None:
    """A writer's process: CPU seconds from `go` until `done` is set."""
    lake, stop = catalog(root, brokers, topic), threading.Event()
    answers.put(0.0)
    go.wait()
    began = cpu_s()
    thread = threading.Thread(target=run_writer, args=(lake,), kwargs={"stop": stop})
    thread.start()
    done.wait()
    answers.put(cpu_s() - began)
    stop.set()
    thread.join()
    lake.close()


def ours(server: KafkaServer, topic: str, events: int, writers: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="neuralake-bench-") as root:
        lake = catalog(root, server.address, topic)
        definition = lake.definition("bench", "events")
        queue, store = lake.queue_of(definition), lake.store_of(definition)
        create_table(store, SCHEMA)
        go, done, answers = SPAWN.Event(), SPAWN.Event(), SPAWN.Queue()
        arguments = (root, server.address, topic, go, done, answers)
        children = [SPAWN.Process(target=write, args=arguments) for _ in range(writers)]
        for child in children:
            child.start()
        for _ in children:
            answer(answers, children)
        lasts = {
            app_id(queue.id, name): queue.bounds(name).last for name in queue.partitions(TOPIC)
        }
        log, began_s = TableLog.open(store), time.perf_counter()
        go.set()
        while any((log.committed(name) or 0) < last for name, last in lasts.items()):
            time.sleep(0.02)
            log.refresh()
        wall_s = time.perf_counter() - began_s
        done.set()
        cpu = sum(answer(answers, children) for _ in children)
        for child in children:
            child.join()
        ids = lake.db("bench").table("events").select("id").collect()["id"]
        assert len(ids) == events
        assert ids.n_unique() == events
        lake.close()
    return Run(events, wall_s, cpu)


def batches(brokers: str, topic: str, partitions: int) -> Iterator[tuple[bytes, int]]:
    """All that the topic has, 10,000 messages at a time: the values as lines, and how many."""
    config = {"bootstrap.servers": brokers, "group.id": "bare", "enable.auto.commit": False}
    consumer = Consumer(config)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
        for number in range(partitions)
    ]
    left = sum(ends)
    while left:
        messages = consumer.consume(10_000, 1.0)
        if messages:
            left -= len(messages)
            yield b"\n".join([message.value() or b"" for message in messages]), len(messages)
    consumer.close()


def loop(_root: str, brokers: str, topic: str, partitions: int) -> None:
    """The bare loop, which keeps nothing."""
    # Polars' reader panics at 16 bits.
    schema = {"id": pl.Int64, "session": pl.String, "time": pl.String, "channel": pl.Int32}
    schema |= {"count": pl.Int32, "value": pl.Float64, "note": pl.String}
    for lines, count in batches(brokers, topic, partitions):
        frame = pl.read_ndjson(lines, schema=schema)
        frame = frame.with_columns(pl.col("time").str.to_datetime("%+", time_unit="us"))
        frame.write_parquet(io.BytesIO(), compression="zstd")
        assert frame.height == count


def peer(root: str, brokers: str, topic: str, partitions: int) -> None:
    """The loop that commits to a table in `root`."""
    table = deltalake.DeltaTable.create(root, SCHEMA)
    options = pj.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error")
    for lines, count in batches(brokers, topic, partitions):
        rows = pj.read_json(io.BytesIO(lines), parse_options=options)
        assert rows.num_rows == count
        deltalake.write_deltalake(table, rows, mode="append")


Side = Callable[[str, str, str, int], None]


def run_side(side: Side, arguments: tuple[Any, ...], go: Any, answers: Queue[float]) -> None:
    """A process of a loop: CPU seconds until it has everything."""
    answers.put(0.0)
    go.wait()
    began = cpu_s()
    side(*arguments)
    answers.put(cpu_s() - began)


def other(side: Side, server: KafkaServer, topic: str, events: int, partitions: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="neuralake-bench-") as root:
        go, answers = SPAWN.Event(), SPAWN.Queue()
        arguments = (side, (root, server.address, topic, partitions), go, answers)
        child = SPAWN.Process(target=run_side, args=arguments)
        child.start()
        answer(answers, [child])
        began_s = time.perf_counter()
        go.set()
        cpu = answer(answers, [child])
        wall_s = time.perf_counter() - began_s
        child.join()
        if side is peer:
            assert pl.scan_delta(root).select("id").collect()["id"].n_unique() == events
    return Run(events, wall_s, cpu)


def answer(answers: Queue[float], children: Sequence[Any]) -> float:
    """The next answer of `children`; an error if one of them has died."""
    while True:
        try:
            return answers.get(timeout=1.0)
        except Empty:
            if any(child.exitcode for child in children):
                raise RuntimeError("a process of this bench has died") from None


@contextmanager
def filled(events: int) -> Iterator[tuple[KafkaServer, str, str]]:
    with kafka_server() as server:
        yield server, fill(server, events, 1), fill(server, events, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    print(f"Kafka on this machine, {options.events:,} events of {len(event(123_456))} bytes")
    with filled(options.events) as (server, one, two):
        count = options.events
        sides: dict[str, Callable[[], Run]] = {
            OURS: lambda: ours(server, one, count, 1),
            "bare loop, no commits": lambda: other(loop, server, one, count, 1),
            "pyarrow.json, write_deltalake": lambda: other(peer, server, one, count, 1),
            "neuralake, 2 partitions, 1 writer": lambda: ours(server, two, count, 1),
            "neuralake, 2 partitions, 2 writers": lambda: ours(server, two, count, 2),
        }
        found: dict[str, list[Run]] = {name: [] for name in sides}
        for _ in range(options.runs):
            for name, side in sides.items():
                found[name].append(side())
                print(f"  {name:<36}{found[name][-1]}", flush=True)
    print("median, and ours to it in the same round: rate, CPU seconds")
    for name, runs in found.items():
        middle = Run(count, median(run.wall_s for run in runs), median(run.cpu_s for run in runs))
        pairs = list(zip(found[OURS], runs, strict=True))
        wall = median(run.wall_s / our.wall_s for our, run in pairs)
        cpu = median(our.cpu_s / run.cpu_s for our, run in pairs)
        print(f"{name:<38}{middle}  {wall:5.2f}  {cpu:5.2f}")


if __name__ == "__main__":
    main()
