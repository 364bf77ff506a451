"""Producers over HTTP: numbered requests, each stored once and in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from ingest_lake import SPIKES, arrow_stream, lake, stored

from neuralake.ingest.server import start_server
from neuralake.queue import Queue

PATH = "/v1/lab/spikes"
SPIKE = {"session": "s", "time": None, "channel": 1, "rate": None}


def post(client: httpx.Client, sequence: Any, channel: Any = None, **headers: str) -> Any:
    """The answer to row and number `sequence`, or to another row as that number."""
    row = SPIKE | {"channel": sequence if channel is None else channel}
    sent = {"neuralake-producer": "p", "neuralake-sequence": str(sequence)} | headers
    return client.post(PATH, json=row, headers={k: v for k, v in sent.items() if v})


def channels(queue: Queue) -> list[int]:
    return [row["channel"] for row in stored(queue, "lab.spikes")]


def test_numbered_requests_are_stored_once_each(client: httpx.Client, queue: Queue) -> None:
    answers = [post(client, sequence) for sequence in (1, 2, 2, 1, 3)]

    assert [answer.status_code for answer in answers] == [202] * 5
    assert [answer.json()["repeated"] for answer in answers] == [False, False, True, True, False]
    assert [answer.json()["position"] for answer in answers] == [1, 2, 2, 1, 3]
    assert {answer.headers["neuralake-queue"] for answer in answers} == {queue.id}
    assert channels(queue) == [1, 2, 3]


def test_what_cannot_be_stored_says_why(client: httpx.Client, queue: Queue) -> None:
    unknown, _, gap, other = (
        post(client, 2),
        post(client, 1),
        post(client, 3),
        post(client, 1, channel=9),
    )

    assert (unknown.status_code, unknown.json()["type"]) == (
        409,
        "urn:neuralake:problem:unknown-producer",
    )
    assert (unknown.json()["expected"], unknown.json()["queue"]) == (1, queue.id)
    assert (gap.status_code, gap.json()["type"]) == (409, "urn:neuralake:problem:out-of-order")
    assert gap.json()["expected"] == 2
    assert (other.status_code, other.json()["type"]) == (422, "urn:neuralake:problem:key-reused")
    assert channels(queue) == [1]


def test_a_number_counts_in_the_queue_that_it_names(client: httpx.Client, queue: Queue) -> None:
    """Any queue takes number 1 from anybody; whoever may have sent it before names the queue."""
    other = post(client, 1, **{"neuralake-queue": "another"})
    same = post(client, 1, **{"neuralake-queue": queue.id})

    assert (other.status_code, other.json()["type"]) == (
        409,
        "urn:neuralake:problem:unknown-producer",
    )
    assert (other.json()["queue"], other.json()["expected"]) == (queue.id, 1)
    assert same.status_code == 202
    assert channels(queue) == [1]


def test_rows_that_do_not_fit_take_no_number(client: httpx.Client, queue: Queue) -> None:
    refused = client.post(
        PATH,
        json=SPIKE | {"channel": "x"},
        headers={"neuralake-producer": "p", "neuralake-sequence": "1"},
    )

    assert refused.status_code == 422
    assert not post(client, 1).json()["repeated"]


def test_arrow_of_equal_length_is_told_apart_by_its_bytes(
    client: httpx.Client, queue: Queue
) -> None:
    bodies = [
        arrow_stream(pa.Table.from_pylist([SPIKE | {"channel": n}], schema=SPIKES)) for n in (1, 2)
    ]
    headers = {
        "content-type": "application/vnd.apache.arrow.stream",
        "neuralake-producer": "p",
        "neuralake-sequence": "1",
    }
    answers = [client.post(PATH, content=body, headers=headers) for body in (bodies[0], *bodies)]

    assert [answer.status_code for answer in answers] == [202, 202, 422]


@pytest.mark.parametrize(
    "headers",
    [
        {"neuralake-sequence": ""},
        {"neuralake-producer": ""},
        {"neuralake-producer": "x" * 256},
        {"neuralake-sequence": "one"},
        {"neuralake-sequence": "-1"},
        {"neuralake-sequence": "0"},
        {"neuralake-sequence": "9" * 17},
        {"neuralake-sequence": "9" * 16},
        {"idempotency-key": "k"},
    ],
)
def test_half_a_number_or_a_strange_one_is_refused(
    client: httpx.Client, queue: Queue, headers: dict[str, str]
) -> None:
    answer = post(client, 1, **headers)

    assert answer.status_code == 400
    assert channels(queue) == []


def test_a_producer_is_known_after_a_restart(tmp_path: Path) -> None:
    answers = []
    for sequence in (1, 1, 2):
        catalog = lake(tmp_path)
        with (
            start_server(catalog) as server,
            httpx.Client(base_url=server.url, timeout=60) as client,
        ):
            answers.append(post(client, sequence).json()["repeated"])
        catalog.queue().close()

    assert answers == [False, True, False]
