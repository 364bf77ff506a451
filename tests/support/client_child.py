"""A program that sends rows, to be killed: `python client_child.py URL SPOOL SESSION COUNT`.

It prints each channel when `send` has returned for it, and `closed` when all are acknowledged.
"""

from __future__ import annotations

import sys

import pyarrow as pa
from ingest_lake import SPIKES

from neuralake.ingest import Client


def main(url: str, spool: str, session: str, count: int) -> None:
    client = Client(url, spool=spool, batch_rows_max=20, linger_s=0.005)
    for channel in range(count):
        row = {"session": session, "channel": channel}
        # Both forms, in runs, so that bodies hold several calls and their form changes.
        is_arrow = channel // 10 % 2
        client.send("lab.spikes", pa.Table.from_pylist([row], SPIKES) if is_arrow else row)
        print(channel, flush=True)
    client.close(timeout_s=280)
    print("closed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
