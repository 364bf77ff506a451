"""One of several processes of ours that race for the same log entries.

Usage: service_race_child.py TABLE NAME, with the keys in the environment. For each name that it
reads as a line, it tries to put its own NAME there if nothing is, and prints `won` or `lost`.
"""

from __future__ import annotations

import os
import sys

from service_table import ServiceTable

from neuralake.storage import AlreadyThere


def main(table: str, name: str) -> None:
    keys = (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    store = ServiceTable.of_arguments(table, *keys).store()
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            store.put_if_absent(line.strip(), name.encode())
        except AlreadyThere:
            print("lost", flush=True)
        else:
            print("won", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
