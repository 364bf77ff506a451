"""An idempotency key stands for one request: what else comes with it is refused, not swallowed."""

from __future__ import annotations

import httpx
import pyarrow as pa
from ingest_lake import arrow_stream, stored

from neuralake.queue import Queue

SPIKE = {"session": "s-1", "time": "2026-01-02T03:04:05.5Z", "channel": 3, "rate": 1.5}
SPIKES = "/v1/lab/spikes"
KEY = {"idempotency-key": "k"}
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


def test_a_key_with_other_rows_is_refused_and_the_first_rows_stay(
    client: httpx.Client, queue: Queue
) -> None:
    first = client.post(SPIKES, json=SPIKE, headers=KEY)
    other = client.post(SPIKES, json=SPIKE | {"channel": 4}, headers=KEY)

    assert (first.status_code, other.status_code) == (202, 422)
    assert other.json()["type"] == "urn:neuralake:problem:key-reused"
    assert other.json()["position"] == first.json()["position"]
    assert [row["channel"] for row in stored(queue, "lab.spikes")] == [3]


def test_an_arrow_stream_may_come_again_in_other_bytes_but_not_with_other_rows(
    client: httpx.Client, queue: Queue
) -> None:
    def rows(count: int) -> pa.Table:
        times = pa.array([1_767_323_045_500_000] * count, pa.timestamp("us", tz="UTC"))
        return pa.table({"session": ["s"] * count, "time": times, "channel": [1] * count})

    plain = arrow_stream(rows(2))
    encoded = arrow_stream(
        rows(2).set_column(0, "session", pa.array(["s", "s"]).dictionary_encode())
    )
    answers = [
        client.post(SPIKES, content=body, headers=KEY | ARROW)
        for body in (plain, encoded, arrow_stream(rows(3)))
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert len(stored(queue, "lab.spikes")) == 2
