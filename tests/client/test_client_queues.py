"""A queue that is made anew, and servers that do not count: nothing is sent twice unknowingly."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from canned_http import STORED, Canned, canned_http
from gate_proxy import Request, Verdict, gate
from ingest_lake import lake
from ingest_server import Server, served
from sent_spikes import TABLE, channels, spike

from neuralake.errors import (
    NeedsAttention,
    Unavailable,
)
from neuralake.ingest import Client


def doubtful_spool(folder: Path, server: Server) -> Path:
    """A spool whose one request is stored, and nobody told its sender."""
    spool, cut = folder / "spool", threading.Event()

    def judge(request: Request) -> Verdict:
        if request.method == "POST" and request.is_answered:
            cut.set()
            return "cut"
        return "pass"

    with gate(server.url, judge) as url:
        client = Client(url, spool=spool)
        client.send(TABLE, spike(1))
        assert cut.wait(timeout=60)
        with pytest.raises(Unavailable):
            client.close(timeout_s=0.0)
    return spool


def forget_all(folder: Path, server: Server) -> None:
    """Delete the queue, and start the server again."""
    server.stop()
    path = lake(folder).settings.queue_path
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    server.restart()


def queued(folder: Path) -> list[int]:
    with closing(lake(folder).queue()) as queue:
        return channels(queue)


@pytest.mark.parametrize(("in_doubt", "stored"), [("resend", [1, 2]), ("drop", [2])])
def test_a_queue_made_anew_is_noticed_at_the_first_request_too(
    tmp_path: Path, in_doubt: Any, stored: list[int]
) -> None:
    with served(tmp_path) as server:
        spool = doubtful_spool(tmp_path, server)
        assert queued(tmp_path) == [1], "it was stored, and may be in the table"
        forget_all(tmp_path, server)
        with Client(server.url, spool=spool, in_doubt=in_doubt) as client:
            client.send(TABLE, spike(2))

    assert queued(tmp_path) == stored


def test_a_queue_made_anew_gets_nothing_in_doubt_until_a_person_has_looked(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        spool = doubtful_spool(tmp_path, server)
        forget_all(tmp_path, server)
        client = Client(server.url, spool=spool)
        client.send(TABLE, spike(2))
        with pytest.raises(NeedsAttention, match=r"another queue than before.*in_doubt"):
            client.flush()
        with pytest.raises(NeedsAttention):
            client.close()

    assert queued(tmp_path) == []


def test_a_queue_that_was_not_made_anew_knows_what_was_in_doubt(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        spool = doubtful_spool(tmp_path, server)
        server.kill()
        server.restart()
        with Client(server.url, spool=spool) as client:
            client.send(TABLE, spike(2))

    assert queued(tmp_path) == [1, 2]


def test_without_doubt_a_client_goes_on_with_a_queue_made_anew(tmp_path: Path) -> None:
    with served(tmp_path) as server, Client(server.url) as client:
        client.send(TABLE, spike(1))
        client.flush()
        forget_all(tmp_path, server)
        client.send(TABLE, spike(2))

    assert queued(tmp_path) == [2]


@pytest.mark.parametrize(
    "topics", [Canned(404), Canned(200, b"<html>a portal</html>"), Canned(200, b'{"queue":null}')]
)
def test_a_server_that_names_no_queue_is_sent_nothing(topics: Canned) -> None:
    with canned_http([Canned(202, STORED)], topics=topics) as (url, seen):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(NeedsAttention, match="older release"):
            client.flush()
        with pytest.raises(NeedsAttention, match="1 row is not acknowledged"):
            client.close()

    assert seen == []


def test_a_server_that_may_be_asked_later_is_asked_later() -> None:
    answers = [Canned(202, STORED)]
    with canned_http(answers, topics=Canned(503, retry_after=0)) as (url, seen):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(Unavailable):
            client.close(timeout_s=0.1)

    assert seen == []


@pytest.mark.parametrize("queue", ["", "another"])
def test_an_answer_of_no_queue_or_another_is_told_when_rows_may_be_doubled(queue: str) -> None:
    """The server does not count: of a lost answer and its repeat it has made two."""
    answers = [Canned(0), Canned(202, STORED, queue=queue)]
    with canned_http(answers) as (url, seen):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(NeedsAttention, match="1 rows were sent to it twice"):
            client.flush()
        assert client.rows_waiting == 0, "it is stored: once more would be wrong for certain"
        client.send(TABLE, spike(2))
        with pytest.raises(NeedsAttention):
            client.close()

    assert len(seen) == 2


def test_servers_with_queues_of_their_own_that_take_turns_are_not_asked_in_a_hurry() -> None:
    """A wait between any two questions: with none there would be thousands of them."""
    said = b'{"type":"urn:neuralake:problem:unknown-producer","detail":"no","queue":"%d"}'
    answers = [Canned(409, said % number) for number in range(200)]
    with canned_http(answers) as (url, seen):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(Unavailable):
            client.close(timeout_s=0.3)

    assert len(seen) < 100
