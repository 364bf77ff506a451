"""A process of ours that compacts a table again and again, until it is told to stop by a file.

Usage: service_compactor_child.py TABLE STOP_FILE, with the keys in the environment. Prints how many
files it rewrote, and how often it gave way to another commit. The last round begins after the stop
file was there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from service_table import ServiceTable

from neuralake.delta import compact_once


def main(table: str, stop: Path) -> None:
    keys = (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    store = ServiceTable.of_arguments(table, *keys).store()
    print("ready", flush=True)
    rewritten = conflicts = 0
    while True:
        is_last = stop.exists()
        done = compact_once(store, target_bytes=2**20, files_min=2)
        rewritten, conflicts = rewritten + done.files_removed, conflicts + done.conflicts
        if is_last and not done.conflicts:
            break
    print(rewritten, conflicts)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
