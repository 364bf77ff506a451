"""A process in which delta-rs appends; it knows nothing of neuralake, and needs only deltalake.

Usage: rival_child.py URI NAME FIRST COUNT, with the account in the environment. Row `i` of NAME is
one commit, for i from FIRST; after each it prints `i`. A commit that fails is tried again. COUNT 0
means until it is killed. It runs under any release of deltalake, also in an environment of its own.
"""

from __future__ import annotations

import os
import sys
from itertools import count, islice

import pyarrow as pa
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError

SCHEMA = pa.schema([("writer", pa.string()), ("id", pa.int64()), ("p", pa.string())])


def main(uri: str, name: str, first: int, rounds: int) -> None:
    options = {key: os.environ[key] for key in os.environ if key.startswith(("AWS_", "DELTA_"))}
    print("ready", flush=True)
    for i in islice(count(first), rounds or None):
        rows = pa.table({"writer": [name], "id": [i], "p": ["ab"[i % 2]]}, SCHEMA)
        while True:
            try:
                write_deltalake(uri, rows, mode="append", storage_options=options)
            except CommitFailedError as error:
                # Overtaken more often than it tries by itself: nothing was committed.
                print(f"again {error}", file=sys.stderr, flush=True)
                continue
            break
        print(i, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
