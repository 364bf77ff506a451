"""A writer that is killed with -9 at any moment loses and doubles nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import stream_lake
from stream_lake import LIMITS, TOPIC, StreamLake, payload

from neuralake.delta import TableLog
from neuralake.queue import SqliteQueue
from neuralake.writer import TopicWriter

CHILD = Path(stream_lake.__file__).with_name("writer_child.py")


def start_writer(queue: Path, uri: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, str(CHILD), str(queue), uri], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_writer_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    lake, path, rng = StreamLake(tmp_path), tmp_path / "queue.sqlite", random.Random(seed)
    queue, stop, sent = SqliteQueue(path), threading.Event(), 0

    def produce() -> None:
        nonlocal sent
        while not stop.wait(0.001):  # The writers that start get some of the machine.
            queue.append(TOPIC, payload(sent, sent + 1, sent + 2), 3)
            sent += 3

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for _ in range(5):
            child = start_writer(path, lake.uri)
            stop.wait(rng.uniform(0.0, 0.3))  # The moment of death, not a wait for something.
            kill(child)
    finally:
        stop.set()
        producer.join()
    writer = TopicWriter(queue, TOPIC, TableLog.open(lake.uri), LIMITS, grace_s=0.0)
    while writer.position < queue.bounds(TOPIC).last:
        writer.step(flush=True)
    queue.close()

    assert lake.ids() == list(range(sent))


def test_two_writer_processes_on_one_topic_lose_and_double_nothing(tmp_path: Path) -> None:
    lake, path = StreamLake(tmp_path), tmp_path / "queue.sqlite"
    queue = SqliteQueue(path)
    children = [start_writer(path, lake.uri) for _ in range(2)]
    for i in range(300):
        queue.append(TOPIC, payload(i), 1)
    for child in children:
        kill(child)

    writer = TopicWriter(queue, TOPIC, TableLog.open(lake.uri), LIMITS, grace_s=0.0)
    while writer.position < queue.bounds(TOPIC).last:
        writer.step(flush=True)
    queue.close()

    assert lake.ids() == list(range(300))
