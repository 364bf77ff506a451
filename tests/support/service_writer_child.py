"""A process of ours that appends, as the stream writer does: one transaction after the other.

Usage: service_writer_child.py TABLE NAME COUNT ACKS FLUSH_MS, with the keys in the environment.
Transaction
`i` of NAME holds the rows 2i and 2i+1, one in each partition. It goes on behind what the table has,
says so as a line `from N` in the file ACKS, and then `N` for each append that returned, until COUNT
are in the table. Nothing it says is buffered: it is true also if the next instruction is a SIGKILL.
It waits FLUSH_MS after each, as rows are gathered meanwhile; 0 leaves no gap for anybody slower.
"""

from __future__ import annotations

import os
import sys
import time

import pyarrow as pa
from service_table import SCHEMA, ServiceTable

from neuralake.delta import TableLog, Txn
from neuralake.errors import Unavailable


def main(table: str, name: str, count: int, acks: str, flush_ms: int) -> None:
    keys = (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    log = TableLog.open(ServiceTable.of_arguments(table, *keys).store())
    done = log.committed(name)
    first = 0 if done is None else done + 1
    said = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(said, b"from %d\n" % first)
    print("ready", flush=True)
    for i in range(first, count):
        ids = [2 * i, 2 * i + 1]
        rows = pa.table({"writer": [name] * 2, "id": ids, "p": ["a", "b"]}, SCHEMA)
        while True:
            try:
                log.append(rows, txn=Txn(name, i))
            except Unavailable as error:  # As the caller is told: the same again, later.
                print(error, file=sys.stderr, flush=True)
                continue
            break
        os.write(said, b"%d\n" % i)
        time.sleep(flush_ms / 1000)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
