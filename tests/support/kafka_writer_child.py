"""`neuralake write` for a `KafkaLake`: kafka_writer_child.py ROOT BROKERS TOPIC GROUP.

Writes until SIGTERM. Says `ready` when it begins.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from kafka_lake import KafkaLake

from neuralake.writer import run_writer


def main(root: str, brokers: str, topic: str, group: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lake = KafkaLake(Path(root), brokers, topic, group=group)
    print("ready", flush=True)
    run_writer(lake.catalog, stop=stop)
    lake.catalog.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
