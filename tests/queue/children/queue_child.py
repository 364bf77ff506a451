"""A process of its own beside the tests: `queue_child.py ROLE PATH …`.

append PATH NAME COUNT   appends NAME/0, NAME/1, …; prints "position i" after each acknowledgement
produce PATH NAME COUNT  the same as producer NAME, in sequence from 1
follow PATH COUNT AFTER  reads COUNT envelopes past AFTER, trims behind itself, prints each
fork PATH                opens, forks, and prints the error that the child gets

With FILE_BYTES_MIN in the environment, payloads from that size on are files.
"""

import os
import sys

from neuralake.errors import UsageError
from neuralake.queue import ProducerSequence, SqliteQueue

TOPIC = "lab.events"


def opened(path: str) -> SqliteQueue:
    least = os.environ.get("FILE_BYTES_MIN")
    return SqliteQueue(path, file_bytes_min=int(least)) if least else SqliteQueue(path)


def append(path: str, name: str, count: int) -> None:
    queue = opened(path)
    for i in range(count):
        payload = f"{name}/{i}".encode()
        # Several in flight: a kill then hits groups, not only single appends.
        futures = [
            queue.submit(TOPIC, payload + b"/%d" % part, 1, key=f"{name}/{i}/{part}")
            for part in range(3)
        ]
        for part, future in enumerate(futures):
            print(future.result().position, f"{name}/{i}/{part}", flush=True)
    queue.close()


def produce(path: str, name: str, count: int) -> None:
    queue = opened(path)
    for first in range(1, count, 3):
        futures = [
            queue.submit(TOPIC, f"{name}/{n}".encode(), 1, producer=ProducerSequence(name, n))
            for n in range(first, first + 3)
        ]
        for future in futures:
            print(future.result().position, flush=True)
    queue.close()


def follow(path: str, count: int, after: int) -> None:
    queue = opened(path)
    while count:
        for envelope in queue.read(TOPIC, after=after, envelopes_max=16):
            print(envelope.position, envelope.payload.decode(), flush=True)
            after, count = envelope.position, count - 1
        queue.trim(TOPIC, through=after - 5, appended_before_s=float("inf"))
    queue.close()


def fork(path: str) -> None:
    queue = opened(path)
    child = os.fork()
    if child == 0:
        for call in (
            lambda: queue.append(TOPIC, b"", 1),
            lambda: queue.read(TOPIC, after=0),
            lambda: queue.trim(TOPIC, through=1, appended_before_s=0),
        ):
            try:
                call()
            except UsageError as error:
                print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    queue.close()


if __name__ == "__main__":
    role, path, *rest = sys.argv[1:]
    if role == "append":
        append(path, rest[0], int(rest[1]))
    elif role == "produce":
        produce(path, rest[0], int(rest[1]))
    elif role == "follow":
        follow(path, int(rest[0]), int(rest[1]))
    else:
        fork(path)
