"""What a device sees: the answers of `POST /v1/{database}/{table}`, and what is stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from ingest_lake import arrow_stream, lake, stored

from neuralake.catalog import Catalog
from neuralake.delta import TableLog, create_table
from neuralake.errors import InvalidRows, UsageError
from neuralake.ingest.server import start_server
from neuralake.queue import Queue
from neuralake.records.decode import Decoder
from neuralake.settings import IngestSettings, QueueSettings
from neuralake.writer import FlushLimits, TopicWriter

SPIKE = {"session": "s-1", "time": "2026-01-02T03:04:05.5Z", "channel": 3, "rate": 1.5}
SPIKES = "/v1/lab/spikes"


def arrow_rows(count: int) -> pa.Table:
    """`SPIKE` as another program would send it: other order and layout, coarser time."""
    time = pa.array([1_767_323_045_500] * count, pa.timestamp("ms", tz="UTC"))
    session = pa.array(["s-1"] * count).dictionary_encode()
    channel, rate = pa.array([3] * count, pa.int8()), pa.array([1.5] * count, pa.float32())
    return pa.table({"rate": rate, "session": session, "channel": channel, "time": time})


NDJSON = {"content-type": "application/x-ndjson"}
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_an_accepted_event_is_in_the_queue_when_the_answer_comes(
    client: httpx.Client, queue: Queue
) -> None:
    answer = client.post(SPIKES, json=SPIKE)

    assert answer.status_code == 202
    assert answer.json() == {"position": 1, "rows": 1, "repeated": False}
    assert stored(queue, "lab.spikes") == [
        SPIKE | {"time": datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)}
    ]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps(SPIKE).encode()),
        ("application/json; charset=utf-8", json.dumps([SPIKE]).encode()),
        ("application/x-ndjson", json.dumps(SPIKE).encode() + b"\n"),
        ("application/ndjson", b"\xef\xbb\xbf\r\n" + json.dumps(SPIKE).encode() + b"\r\n"),
        ("application/jsonl", json.dumps(SPIKE, indent=2).encode()),
        ("application/vnd.apache.arrow.stream", arrow_stream(arrow_rows(1))),
    ],
)
def test_every_format_stores_the_same_row(
    client: httpx.Client, queue: Queue, content_type: str, body: bytes
) -> None:
    answer = client.post(SPIKES, content=body, headers={"content-type": content_type})

    assert answer.status_code == 202, answer.text
    assert stored(queue, "lab.spikes") == [
        SPIKE | {"time": datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)}
    ]


@pytest.mark.parametrize(
    ("status", "path", "body", "headers", "said"),
    [
        (422, SPIKES, {"session": "s", "channel": 40_000}, {}, "out of the range of int16"),
        (422, SPIKES, {"session": "s", "channel": "3"}, {}, 'expected an integer, found "3"'),
        (422, SPIKES, {"session": "s", "chanel": 3}, {}, "did you mean 'channel'"),
        (422, SPIKES, {"channel": 3}, {}, "not nullable"),
        (422, SPIKES, {"session": "s", "time": "2026-01-02T03:04:05"}, {}, "no time zone"),
        (422, SPIKES, [{"session": "s"}, 7], {}, "a row is a JSON object"),
        (400, SPIKES, b"{", {}, "not JSON"),
        (400, SPIKES, b'{"session":"s","session":"t"}', {}, "twice"),
        (400, SPIKES, b"\xff", {}, "UTF-8"),
        (400, SPIKES, b'{"session":"\xc3', NDJSON, "UTF-8"),
        (422, SPIKES, b'{"\\ud800":1}', {}, "no such column"),
        (400, SPIKES, b"", {}, "not JSON"),
        (400, SPIKES, b"[]", {}, "no rows"),
        (400, SPIKES, b"\n\n", NDJSON, "no rows"),
        (400, SPIKES, b"[" * 100_000, {}, "nested too deeply"),
        (400, SPIKES, b"1" * 10_000, {}, "too many digits"),
        (400, SPIKES, b"not arrow", ARROW, "Arrow IPC stream"),
        (400, SPIKES, SPIKE, {"idempotency-key": "k" * 300}, "Idempotency-Key"),
        (400, SPIKES + "?wiat=committed", SPIKE, {}, "wait=committed"),
        (400, "/v1/lab/fixed", SPIKE, {}, "no stream. Add stream=nl.Stream()"),
        (400, "/v1/lab/archive", SPIKE, {}, "it is a Parquet table, which is only read"),
        (404, "/v1/lab/spike", SPIKE, {}, "spikes"),
        (404, "/v1/lap/spikes", SPIKE, {}, "lab"),
        (404, "/nothing", SPIKE, {}, "nothing"),
        (413, SPIKES, b" " * 1_000_001, {}, "1000000"),
        (413, SPIKES, [{"session": "s"}] * 1001, {}, "1000 rows"),
        (413, SPIKES, b'{"session":"s"}\n' * 1001, NDJSON, "1000 rows"),
        (413, SPIKES, arrow_stream(arrow_rows(1001)), ARROW, "1000 rows"),
        (415, SPIKES, SPIKE, {"content-type": "text/plain"}, "application/x-ndjson"),
        (415, SPIKES, SPIKE, {"content-type": "application/json; charset=latin-1"}, "UTF-8"),
        (415, SPIKES, SPIKE, {"content-type": ""}, "-H 'Content-Type: application/json'"),
        (415, SPIKES, SPIKE, FORM, "-H 'Content-Type: application/json'"),
        (415, SPIKES, SPIKE, {"content-encoding": "br"}, "gzip"),
    ],
)
def test_a_refusal_says_why_and_stores_nothing(
    client: httpx.Client,
    queue: Queue,
    status: int,
    path: str,
    body: object,
    headers: dict[str, str],
    said: str,
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(
        path, content=content, headers={"content-type": "application/json"} | headers
    )

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert problem["status"] == status
    assert said in problem["detail"]
    assert queue.topics() == []


def test_a_refusal_names_the_row_and_the_nested_place() -> None:
    inner = pa.struct([("at", pa.list_(pa.struct([("x", pa.int8())])))])
    decoder = Decoder(pa.schema([("a", inner)]), name="t", partition_by=[], limits=IngestSettings())

    with pytest.raises(InvalidRows) as caught:
        decoder.rows(
            b'{"a":{"at":[]}}\n\n{"a":{"at":[{"x":1},{"x":true}]}}', "application/x-ndjson"
        )

    assert (caught.value.row, caught.value.column) == (1, "a.at[1].x")
    assert caught.value.reason == "expected an integer, found true"


def test_a_method_that_is_not_there_is_answered_in_the_same_shape(client: httpx.Client) -> None:
    answer = client.delete(SPIKES)

    assert (answer.status_code, answer.json()["status"]) == (405, 405)


def test_a_body_without_length_is_bounded_while_it_comes_in(
    client: httpx.Client, queue: Queue
) -> None:
    def spaces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    answer = client.post(SPIKES, content=spaces(), headers=NDJSON)

    assert answer.status_code == 413
    assert queue.topics() == []


def test_the_same_key_stores_once(client: httpx.Client, queue: Queue) -> None:
    headers = {"idempotency-key": "a-1"}

    first = client.post(SPIKES, json=SPIKE, headers=headers)
    again = client.post(SPIKES, json=SPIKE, headers=headers)

    assert (first.json()["repeated"], again.json()["repeated"]) == (False, True)
    assert first.json()["position"] == again.json()["position"]
    assert len(stored(queue, "lab.spikes")) == 1


def test_an_empty_partition_value_is_stored_as_the_null_it_is_in_delta(
    client: httpx.Client, queue: Queue
) -> None:
    client.post("/v1/lab/notes", json=[{"author": "", "text": ""}, {"author": "b"}])

    assert stored(queue, "lab.notes") == [
        {"author": None, "text": ""},
        {"author": "b", "text": None},
    ]


def test_waiting_for_the_commit_answers_with_a_version_that_has_the_rows(
    client: httpx.Client, catalog: Catalog, queue: Queue
) -> None:
    """The table is made only after the wait began, as a first writer does."""
    definition = catalog.definition("lab", "spikes")
    uri = catalog.uri_of(definition)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, SPIKES + "?wait=committed", json=SPIKE)
        while not queue.topics():
            threading.Event().wait(0.001)
        assert definition.schema is not None
        create_table(uri, definition.schema)
        limits = FlushLimits(age_ms_max=1, rows_max=1, bytes_max=1)
        TopicWriter(queue, "lab.spikes", TableLog.open(uri), limits).step(flush=True)
        answer = waiting.result(timeout=60)

    assert answer.status_code == 200
    assert answer.json() == {"position": 1, "rows": 1, "repeated": False, "version": 1}


def test_waiting_is_bounded_and_says_that_the_rows_are_stored(
    tmp_path: Path,
) -> None:
    catalog = lake(tmp_path, wait_s_max=0.05)
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post(SPIKES + "?wait=committed", json=SPIKE)
    rows = stored(catalog.queue(), "lab.spikes")
    catalog.queue().close()

    assert answer.status_code == 202
    assert "stored" in answer.json()["note"]
    assert len(rows) == 1


def test_a_full_queue_asks_to_come_back(tmp_path: Path) -> None:
    catalog = lake(tmp_path, queue=QueueSettings(bytes_max=2000), body_bytes_max=1000)
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answers = [client.post(SPIKES, json=SPIKE) for _ in range(9)]
    rows = stored(catalog.queue(), "lab.spikes")
    catalog.queue().close()

    assert {answer.status_code for answer in answers} == {202, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert len(rows) == sum(answer.status_code == 202 for answer in answers)


def test_progress_tells_schema_position_and_lag(client: httpx.Client, queue: Queue) -> None:
    client.post(SPIKES, json=SPIKE)

    answer = client.get(SPIKES).json()

    assert answer["columns"][2] == {"name": "channel", "type": "int16", "nullable": True}
    assert (answer["position"], answer["committed_position"], answer["version"]) == (1, 0, None)
    assert answer["lag_s"] > 0
    assert answer["queue"] == queue.id


def test_many_clients_at_once_store_every_row_once(client: httpx.Client, queue: Queue) -> None:
    def send(channel: int) -> int:
        return client.post(SPIKES, json=SPIKE | {"channel": channel}).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(send, range(200)))

    assert set(statuses) == {202}
    assert sorted(str(row["channel"]) for row in stored(queue, "lab.spikes")) == sorted(
        map(str, range(200))
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": ""},
        {"host": "127.0.0.1.evil.example:80"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_web_page_cannot_send_rows(
    client: httpx.Client, queue: Queue, headers: dict[str, str]
) -> None:
    answer = client.post(SPIKES, json=SPIKE, headers=headers)

    assert answer.status_code == 403
    assert queue.topics() == []


def test_the_site_of_this_server_may_send_rows(client: httpx.Client) -> None:
    origin = str(client.base_url).rstrip("/")

    assert client.post(SPIKES, json=SPIKE, headers={"origin": origin}).status_code == 202


def test_a_rebound_name_cannot_read(client: httpx.Client) -> None:
    assert client.get(SPIKES, headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket"])
def test_a_page_of_another_site_can_load_nothing_of_ours(client: httpx.Client, mode: str) -> None:
    """The catalog's search is a script, which any page could run; a link to us is fine."""
    theirs = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}

    assert client.get("/health/live", headers=theirs).status_code == 403
    assert client.get("/health/live", headers=link).status_code == 200
    policy = client.get("/health/live").headers["cross-origin-resource-policy"]
    assert policy == "same-origin"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org", ""])  # noqa: S104 they are refused
def test_the_server_listens_on_loopback_only(catalog: Catalog, host: str) -> None:
    with pytest.raises(UsageError, match="other machines can reach"):
        start_server(catalog, host=host)


def test_a_port_that_is_taken_is_an_error_that_names_it(
    client: httpx.Client, catalog: Catalog
) -> None:
    with pytest.raises(UsageError, match=str(client.base_url.port)):
        start_server(catalog, port=client.base_url.port or 0)


def test_health_answers(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert client.get("/health").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [
        ("POST", SPIKES, SPIKE),
        ("POST", SPIKES, {}),
        ("GET", SPIKES, None),
        ("GET", "/health", None),
        ("POST", "/api/sql", {"sql": "SELECT 1"}),
    ],
)
def test_every_json_answer_ends_its_line(
    client: httpx.Client, method: str, path: str, row: dict[str, object] | None
) -> None:
    """As terminals show it: the next prompt, or the next answer, begins a line of its own."""
    body = client.request(method, path, json=row).text

    assert body.endswith("}\n")
    assert body.count("\n") == 1


def test_the_site_is_served_once_it_is_built(client: httpx.Client, catalog: Catalog) -> None:
    before = client.get("/")
    folder = catalog.settings.path(catalog.settings.site.folder)
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<h1>Tables</h1>")
    after = client.get("/")

    assert before.status_code == 404
    assert after.text == "<h1>Tables</h1>"
    assert "default-src 'self'" in after.headers["content-security-policy"]
    assert after.headers["x-content-type-options"] == "nosniff"
    assert client.get("/../secret").status_code == 404
