"""The tail over HTTP: the rows behind a position, bounded, to those who may read them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow as pa
import pytest
from ingest_lake import NOTES
from live_notes import TOPIC, payload, send, trim

from neuralake.catalog import Catalog
from neuralake.ingest import tail
from neuralake.ingest.server import RunningServer
from neuralake.ingest.tokens import TokenFile
from neuralake.queue import Queue

TAIL = "/v1/lab/notes/tail"


def texts(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    rows = pa.ipc.open_stream(answer.content).read_all()
    assert rows.schema.equals(NOTES)
    assert rows.num_rows == int(answer.headers["neuralake-rows"])
    return list(rows["text"].to_pylist())


def test_an_answer_has_the_rows_behind_a_position_and_says_where_to_go_on(
    client: httpx.Client, queue: Queue
) -> None:
    first = send(queue, "a", "b")
    second = send(queue, "c")

    answer = client.get(TAIL, params={"after": 0})

    assert texts(answer) == ["a", "b", "c"]
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert answer.headers["neuralake-position"] == answer.headers["neuralake-last"] == str(second)
    assert answer.headers["neuralake-queue"] == queue.id
    assert texts(client.get(TAIL, params={"after": first})) == ["c"]


def test_without_rows_the_stream_is_empty_and_has_the_columns(
    client: httpx.Client, queue: Queue
) -> None:
    assert texts(client.get(TAIL, params={"after": 0})) == []
    position = send(queue, "a")

    answer = client.get(TAIL, params={"after": position})

    assert texts(answer) == []
    assert answer.headers["neuralake-position"] == str(position)


def test_an_answer_is_cut_between_envelopes_and_has_one_at_least(
    client: httpx.Client, queue: Queue
) -> None:
    size = len(payload("x" * 1000))
    for name in "abc":
        send(queue, name * 1000)

    found, after = list[list[str]](), 0
    while rows := texts(answer := client.get(TAIL, params={"after": after, "bytes_max": 2 * size})):
        found.append([row[0] for row in rows])
        after = int(answer.headers["neuralake-position"])

    assert found == [["a", "b"], ["c"]]
    assert len(texts(client.get(TAIL, params={"after": 0, "bytes_max": 1}))) == 1


def test_what_is_trimmed_is_gone_and_the_first_usable_position_is_told(
    client: httpx.Client, queue: Queue
) -> None:
    send(queue, "a")
    second = send(queue, "b")
    trim(queue, second)

    answer = client.get(TAIL, params={"after": 1})

    assert answer.status_code == 410
    assert answer.json()["type"] == "urn:neuralake:problem:trimmed"
    assert answer.json()["trimmed"] == second
    assert texts(client.get(TAIL, params={"after": second})) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, "Say where to begin"),
        ({"after": "-1"}, "whole number"),
        ({"after": "now"}, "whole number"),
        ({"after": "1_0"}, "whole number"),
        ({"after": "9" * 19}, "must be"),
        ({"after": "9" * 5000}, "whole number"),
        ({"after": "0", "bytes_max": "0"}, "must be"),
        ({"after": "0", "wait_s": "nan"}, "write seconds"),
        ({"after": "0", "wait_s": "-1"}, "write seconds"),
        ({"after": "0", "before": "5"}, "Unknown query parameter"),
    ],
)
def test_a_question_that_means_nothing_is_told_what_helps(
    client: httpx.Client, query: dict[str, str], says: str
) -> None:
    answer = client.get(TAIL, params=query)

    assert answer.status_code == 400
    assert says in answer.json()["detail"]


def test_tables_without_a_stream_and_unknown_names_are_told(client: httpx.Client) -> None:
    for path, status in [
        ("/v1/lab/fixed/tail", 400),
        ("/v1/lab/none/tail", 404),
        ("/v1/none/notes/tail", 404),
        (f"{TAIL}?partition=lab.spikes", 404),
    ]:
        joined = "&" if "?" in path else "?"
        assert client.get(f"{path}{joined}after=0").status_code == status, path
    assert client.post(TAIL).status_code == 405


def test_who_may_only_write_reads_no_rows(
    client: httpx.Client, catalog: Catalog, queue: Queue
) -> None:
    send(queue, "secret")
    tokens = TokenFile(catalog.settings.tokens_path)
    _, writes = tokens.create("rig", write=["*"])
    _, reads = tokens.create("me", read=["lab.notes"])

    def ask(path: str, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return client.get(path, params={"after": 0}, headers=headers)

    assert ask(TAIL).status_code == 401
    assert ask(TAIL, writes).status_code == 403
    assert ask(TAIL, writes).json()["verb"] == "read"
    assert ask("/v1/lab/none/tail", reads).status_code == 403  # Nor whether there is such a table.
    assert texts(ask(TAIL, reads)) == ["secret"]
    assert client.get("/v1", headers={"Authorization": f"Bearer {writes}"}).json()["topics"] == []
    assert client.get("/v1", headers={"Authorization": f"Bearer {reads}"}).json() == {
        "queue": queue.id,
        "topics": ["lab.notes"],
    }


def test_who_waits_is_answered_when_a_row_comes(client: httpx.Client, queue: Queue) -> None:
    """Many wait at once; a row answers them all, long before their time is up."""
    with ThreadPoolExecutor(12) as threads:
        waiting = [
            threads.submit(client.get, TAIL, params={"after": 0, "wait_s": 20}) for _ in range(12)
        ]
        assert not any(future.done() for future in waiting)
        send(queue, "a")

        assert [texts(future.result()) for future in waiting] == [["a"]] * 12


def test_who_waits_is_answered_with_nothing_when_time_is_up(
    client: httpx.Client, queue: Queue
) -> None:
    position = send(queue, "a")

    answer = client.get(TAIL, params={"after": position, "wait_s": 0.05})

    assert texts(answer) == []
    assert answer.headers["neuralake-position"] == str(position)


def test_who_waits_is_answered_when_the_server_stops(
    server: RunningServer, client: httpx.Client, catalog: Catalog
) -> None:
    """Not cut off after the ten seconds that requests get to end."""
    sent = threading.Event()

    def trace(name: str, _: object) -> None:
        if name == "http11.receive_response_headers.started":
            sent.set()

    ask = client.build_request(
        "GET", TAIL, params={"after": 0, "wait_s": 20}, extensions={"trace": trace}
    )
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.send, ask)
        assert sent.wait(60)
        # Answered while the other waits: so that one is in the server's hands, too.
        for _ in range(20):
            assert client.get(TAIL, params={"after": 0, "wait_s": 0.05}).status_code == 200
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        answer = waiting.result(timeout=60)
    stopping.join()

    assert texts(answer) == []


def test_more_readers_than_there_is_room_for_are_asked_to_come_back(
    client: httpx.Client, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_REQUESTS_MAX", 0)

    answer = client.get(TAIL, params={"after": 0})

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1


def test_a_reader_that_went_away_waits_no_longer(client: httpx.Client, queue: Queue) -> None:
    for _ in range(tail._ANSWERS_MAX * 3):
        with pytest.raises(httpx.ReadTimeout):
            client.get(
                TAIL, params={"after": 0, "wait_s": 20}, timeout=httpx.Timeout(60, read=0.01)
            )

    send(queue, "a")
    assert texts(client.get(TAIL, params={"after": 0})) == ["a"]


def test_the_progress_of_a_table_says_what_the_queue_keeps(
    client: httpx.Client, queue: Queue
) -> None:
    send(queue, "a")
    send(queue, "b", "c")
    trim(queue, 1)

    (partition,) = client.get("/v1/lab/notes").json()["partitions"]

    assert partition.pop("lag_s") > 0
    assert partition == {
        "partition": TOPIC,
        "position": 2,
        "committed_position": 0,
        "trimmed_position": 1,
        "rows": 2,
        "bytes": len(payload("b", "c")),
    }
