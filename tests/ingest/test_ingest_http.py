"""What a device sees: the answers of `POST /v1/{database}/{table}`, and what is stored."""

from __future__ import annotations

import httpx
import pyarrow as pa

from neuralake.queue import Queue

SPIKE = {"session": "s-1", "time": "2026-01-02T03:04:05.5Z", "channel": 3, "rate": 1.5}


def stored(queue: Queue, topic: str = "lab.spikes") -> list[dict[str, object]]:
    """Every row that the queue holds for `topic`."""
    return [
        row
        for envelope in queue.read(topic, after=0)
        for row in pa.ipc.open_stream(envelope.payload).read_all().to_pylist()
    ]


def test_an_accepted_event_is_in_the_queue_when_the_answer_comes(
    client: httpx.Client, queue: Queue
) -> None:
    answer = client.post("/v1/lab/spikes", json=SPIKE)

    assert answer.status_code == 202
    assert answer.json() == {"position": 1, "rows": 1, "repeated": False}
    assert [row["channel"] for row in stored(queue)] == [3]


def test_a_bad_value_is_named_by_row_and_column_and_nothing_is_stored(
    client: httpx.Client, queue: Queue
) -> None:
    answer = client.post("/v1/lab/spikes", json=[SPIKE, SPIKE | {"channel": 40_000}])

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["row"], problem["column"]) == (1, "channel")
    assert "out of the range of int16" in problem["reason"]
    assert queue.bounds("lab.spikes").last == 0
