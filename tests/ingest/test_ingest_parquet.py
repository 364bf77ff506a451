"""Parquet bodies over HTTP."""

from __future__ import annotations

import gzip
import io

import httpx
import parquet_bombs
import pyarrow as pa
import pyarrow.parquet as pq
from ingest_lake import SPIKES, stored

from neuralake.queue import Queue

PATH = "/v1/lab/spikes"
PARQUET = {"content-type": "application/vnd.apache.parquet"}
ROWS = [
    {"session": "s", "time": None, "channel": 1, "rate": 0.5},
    {"session": "t", "time": None, "channel": None, "rate": None},
]


def written() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS, schema=SPIKES), sink)
    return sink.getvalue()


def test_a_parquet_file_is_stored_once_under_a_key(client: httpx.Client, queue: Queue) -> None:
    headers = PARQUET | {"idempotency-key": "k"}
    answers = [client.post(PATH, content=written(), headers=headers) for _ in range(2)]
    packed = client.post(
        PATH, content=gzip.compress(written()), headers=PARQUET | {"content-encoding": "gzip"}
    )

    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json()["repeated"] for answer in answers] == [False, True]
    assert packed.status_code == 202
    assert stored(queue, "lab.spikes") == ROWS * 2


def test_what_stands_for_too_much_is_refused_and_nothing_stored(
    client: httpx.Client, queue: Queue
) -> None:
    bomb = parquet_bombs.texts_of_one_word(500, 100_000)
    large = client.post(PATH, content=bomb, headers=PARQUET)
    damaged = client.post(PATH, content=parquet_bombs.bombs()["deep nesting"], headers=PARQUET)

    assert (large.status_code, large.json()["unit"]) == (413, "bytes of values")
    assert (damaged.status_code, damaged.json()["reason"]) == (400, "not a Parquet file")
    assert stored(queue, "lab.spikes") == []
