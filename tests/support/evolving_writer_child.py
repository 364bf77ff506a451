"""A writer of partition PART of an `EvolvingLake` that dies by kill -9 at a request to a store.

evolving_writer_child.py ROOT BROKERS TOPIC PART REQUESTS: so many requests are let through.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from evolving_lake import EvolvingLake

import neuralake as nl
from neuralake.settings import KafkaSettings


def main(root: str, brokers: str, topic: str, part: str, requests: str) -> None:
    left = int(requests)

    def step(_what: str) -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    kafka = KafkaSettings(brokers=brokers, topic_identity="name")
    lake = EvolvingLake(Path(root), kafka, nl.KafkaTopic(topic))
    lake.writer(lake.partitions()[int(part)], step=step).step(flush=True)
    lake.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
