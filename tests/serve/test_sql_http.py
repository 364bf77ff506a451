"""`POST /api/sql` over real sockets: what it takes, how it answers, who left meanwhile."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pyarrow as pa
import pytest
from sql_lake import LIMITS, Lake, serving

from neuralake.serve.gateway import Gateway
from neuralake.serve.problem import PROBLEM_MEDIA_TYPE

ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"
ARROW = "application/vnd.apache.arrow.stream"


def post(url: str, sql: str, *, accept: str = "", **body: Any) -> httpx.Response:
    return httpx.post(url, json={"sql": sql, **body}, headers={"Accept": accept}, timeout=60)


def test_a_query_is_json_or_text(url: str) -> None:
    sent = [
        post(url, "SELECT 1 AS x"),
        httpx.post(
            url, content="SELECT 1 AS x", headers={"Content-Type": "text/plain"}, timeout=60
        ),
        httpx.post(url, content="SELECT 1 AS x", timeout=60),
    ]

    for answer in sent:
        assert answer.status_code == 200
        found = answer.json()
        assert found["columns"] == [{"name": "x", "type": "int64"}]
        assert (found["rows"], found["truncated"], found["versions"]) == ([[1]], False, {})


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        (ARROW, ARROW),
        (f"text/html, {ARROW};q=0.5, text/csv;q=0.9", "text/csv"),
        ("application/json;q=0.1, text/*", "text/csv"),
    ],
)
def test_the_accept_header_picks_the_format(url: str, accept: str, media: str) -> None:
    assert post(url, "SELECT 1", accept=accept).headers["Content-Type"].startswith(media)


def test_what_is_known_before_the_rows_is_in_the_headers(url: str) -> None:
    answer = post(url, "SELECT id FROM lab.every", accept="text/csv", limit=2)

    assert answer.headers["Neuralake-Truncated"] == "true"
    assert answer.headers["Neuralake-Rows"] == "2"
    assert answer.headers["Neuralake-Versions"] == "lab.every=1"
    assert answer.headers["Cache-Control"] == "no-store"


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == PROBLEM_MEDIA_TYPE
    found: dict[str, Any] = answer.json()
    assert found["status"] == answer.status_code
    return found


def test_errors_are_problem_documents_with_their_facts(url: str) -> None:
    found = problem(post(url, "SELECT * FROM lab.evry", accept=ARROW))

    assert (found["status"], found["kind"], found["name"]) == (404, "table", "evry")
    assert "Did you mean 'every'?" in found["detail"]
    assert problem(post(url, "SELECT nope"))["reason"] == "plan"
    assert problem(post(url, "DROP TABLE lab.every"))["reason"] == "read-only"
    assert problem(post(url, "SELECT 1 / 0"))["reason"] == "run"
    assert problem(post(url, "SELECT lpad('x', 2000000000)"))["reason"] == "crash"


def test_a_request_that_is_no_query_is_refused(url: str) -> None:
    def sent(content: bytes, media: str) -> int:
        return httpx.post(
            url, content=content, headers={"Content-Type": media}, timeout=60
        ).status_code

    assert httpx.get(url, timeout=60).status_code == 405
    assert sent(b"<sql/>", "application/xml") == 415
    assert sent(b"{", "application/json") == 400
    assert sent(b'{"query": "SELECT 1"}', "application/json") == 400
    assert sent(b'{"sql": "SELECT 1", "limit": -1}', "application/json") == 400
    assert sent(b'{"sql": 1}', "application/json") == 400
    assert sent(b"SELECT '\xff'", "text/plain") == 400
    assert sent(b"SELECT 1" + b" " * 1_000_000, "text/plain") == 413
    assert post(url, "SELECT 1" + " " * LIMITS.query_bytes_max).status_code == 413
    assert post(url, "SELECT 1", accept="image/png").status_code == 406
    assert sent(b"SELECT 1", "text/plain") == 200


def test_a_query_that_takes_too_long_is_told_so(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, timeout_s=0.5)
    with Gateway(lake.catalog, limits=limits) as gateway, serving(gateway) as url:
        answer = post(url, ENDLESS)

        assert (answer.status_code, problem(answer)["timeout_s"]) == (504, 0.5)
        assert "Retry-After" in answer.headers


class Client:
    """A client that sends a query and then does as it likes with its socket."""

    def __init__(self, url: str, sql: str, *, accept: str = "text/csv") -> None:
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=60)
        body = json.dumps({"sql": sql}).encode()
        self.socket.sendall(
            b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )


def wait_until_idle(gateway: Gateway) -> None:
    """Returns when no query runs; the test's own time limit is the limit."""
    while gateway.running:
        threading.Event().wait(0.01)


def wait_until_running(gateway: Gateway) -> None:
    while not gateway.running or not gateway.process_ids:
        threading.Event().wait(0.01)


def test_a_query_ends_when_its_client_leaves(lake: Lake) -> None:
    """Long before its time limit, which is longer than that of this test."""
    limits = msgspec.structs.replace(LIMITS, timeout_s=1000.0)
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway, serving(gateway) as url:
        client = Client(url, ENDLESS)
        wait_until_running(gateway)
        (process_id,) = gateway.process_ids

        client.socket.close()
        wait_until_idle(gateway)

        assert process_id not in gateway.process_ids
        assert post(url, "SELECT 1").status_code == 200


def test_a_query_ends_when_its_client_leaves_in_the_middle_of_the_answer(lake: Lake) -> None:
    limits = msgspec.structs.replace(
        LIMITS, timeout_s=1000.0, rows_max=10**9, answer_bytes_max=10**12
    )
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway, serving(gateway) as url:
        client = Client(url, "SELECT * FROM generate_series(1, 1000000000)")
        assert client.socket.recv(20).startswith(b"HTTP/1.1 200")

        client.socket.close()
        wait_until_idle(gateway)


def test_a_long_answer_streams(lake: Lake) -> None:
    """The first rows arrive while the query, which never ends, runs on: nothing collects it all."""
    limits = msgspec.structs.replace(
        LIMITS, timeout_s=1000.0, rows_max=10**9, answer_bytes_max=10**12
    )
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway, serving(gateway) as url:
        body = {"sql": "SELECT * FROM generate_series(1, 100000000000)"}
        with httpx.stream("POST", url, json=body, headers={"Accept": ARROW}, timeout=60) as answer:
            assert answer.headers["Neuralake-Truncated"] == "unknown"
            parts = answer.iter_raw()
            received = sum(len(next(parts)) for _ in range(100))
            assert received > limits.held_bytes_max / 2
        wait_until_idle(gateway)


@pytest.mark.parametrize("accept", [ARROW, "text/csv", "application/json"])
def test_an_answer_that_fails_on_its_way_breaks_off(lake: Lake, accept: str) -> None:
    """A part is never taken for the whole: the client's own HTTP library sees the break."""
    limits = msgspec.structs.replace(LIMITS, rows_max=10**9, held_bytes_max=10_000)
    sql = "SELECT 1 / (100000 - value) FROM generate_series(1, 200000)"
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway, serving(gateway) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            post(url, sql, accept=accept)

        assert post(url, "SELECT 1").status_code == 200


def test_more_queries_than_may_wait_get_503(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, timeout_s=1000.0)
    with (
        Gateway(lake.catalog, processes=1, waiting_max=0, limits=limits) as gateway,
        serving(gateway) as url,
    ):
        client = Client(url, ENDLESS)
        wait_until_running(gateway)

        answer = post(url, "SELECT 1")

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        client.socket.close()
        wait_until_idle(gateway)
        assert post(url, "SELECT 1").status_code == 200


def test_zero_rows_in_arrow_still_carry_the_schema(url: str) -> None:
    answer = post(url, "SELECT n, part FROM lab.numbers", accept=ARROW)

    found = pa.ipc.open_stream(answer.content).read_all()
    assert found.schema == pa.schema([("n", pa.int64()), ("part", pa.string())])
    assert found.num_rows == 0


def test_a_client_that_asks_again_and_again_keeps_one_process_busy(lake: Lake) -> None:
    """A process is free before its answer ends, so the next query does not start another one."""
    with (
        Gateway(lake.catalog, processes=4, limits=LIMITS) as gateway,
        serving(gateway) as url,
        httpx.Client(timeout=60) as client,
    ):
        for _ in range(20):
            assert client.post(url, json={"sql": "SELECT 1"}).status_code == 200

        assert len(gateway.process_ids) == 1
