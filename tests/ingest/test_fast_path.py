"""Small requests that are answered without the application, and that nobody can tell from others.

What the usual way says is tested elsewhere; here the same requests go both ways. One goes the usual
way if it has a header that asks for something, such as a content encoding, `identity` or not.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_lake import NOTES, SPIKES, stored

from neuralake.catalog import Catalog
from neuralake.clock import Clock, ManualClock, SystemClock
from neuralake.ingest.accounts import Accounts
from neuralake.ingest.committed import Watches
from neuralake.ingest.fast_path import FastPath
from neuralake.ingest.guard import Door
from neuralake.ingest.server import start_server
from neuralake.ingest.target import Targets
from neuralake.ingest.tokens import TokenFile
from neuralake.settings import LakeSettings, QueueSettings, ServerSettings, Settings
from neuralake.tables import DeltaTable, Stream
from neuralake.telemetry import Telemetry

USUAL = {"Content-Encoding": "identity"}
GOOD = {"session": "s", "channel": 1}


def catalog(folder: Path, **parts: Any) -> Catalog:
    """Tables with each policy, each of them twice: one for each way."""
    module = ModuleType("lab")
    for suffix in ("", "_usual"):
        for name, schema, stream in [
            ("spikes", SPIKES, Stream()),
            ("notes", NOTES, Stream()),
            ("letters", SPIKES, Stream(on_invalid="dead_letter")),
            ("dropping", NOTES, Stream(unknown_columns="drop")),
        ]:
            table = name + suffix
            setattr(module, table, DeltaTable(table, f"lab/{table}", schema, stream=stream))
    lake = LakeSettings(root=str(folder / "lake"))
    return Catalog({"lab": module}, Settings(folder=str(folder), lake=lake, **parts))


@contextmanager
def serving(
    lake: Catalog, telemetry: Telemetry | None = None, clock: Clock | None = None
) -> Iterator[socket.socket]:
    """A connection to a server over `lake` that has found its tables."""
    with ExitStack() as stack:
        stack.callback(lambda: lake.queue().close())
        url = stack.enter_context(start_server(lake, telemetry=telemetry, clock=clock)).url
        address = "127.0.0.1", int(url.rsplit(":", 1)[1])
        connection = stack.enter_context(socket.create_connection(address, timeout=60))
        for table in ("spikes", "notes", "letters", "dropping"):
            for name in (table, f"{table}_usual"):
                connection.sendall(request(name, b"{", USUAL))
                receive(connection)
        yield connection


def request(table: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    said = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    } | (headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST /v1/lab/{table} HTTP/1.1\r\n{lines}\r\n".encode() + body


def receive(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """One answer: status, headers and what the JSON says."""
    response = HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return response.status, headers, json.loads(response.read())


BODIES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"[{}, null]",
            b"\xff",
            b"[[[[",
            b'{"session": "s"} {"session": "s"}',
            b'{"session": "s"}\n{"session": "t", "channel": 1.0}\n',
            b'\xef\xbb\xbf{"session": "s"}',
            b'{"session": "s", "session": "t"}',
            b'{"session": "s", "channel": 99999}',
            b'{"session": "s", "time": "2026-01-02T03:04:05.5Z", "rate": 1e-3}',
            b'{"author": "a", "nobody": 1}',
            b'[{"author": "a"}, {"author": "b", "nobody": 1, "other": [1]}]',
            json.dumps({"session": "s" * 5000}).encode(),
        ]
    ),
    st.binary(max_size=30),
    st.lists(st.fixed_dictionaries({"author": st.text(max_size=5)}), max_size=4).map(
        lambda rows: json.dumps(rows).encode()
    ),
    st.fixed_dictionaries({"session": st.text(max_size=5), "channel": st.integers(-3, 70000)}).map(
        lambda row: json.dumps(row).encode()
    ),
)
TYPES = ["application/json", "application/x-ndjson", "application/json; charset=utf-8", "", "a/b"]


def test_both_ways_give_the_same_answers_and_store_the_same_rows(tmp_path: Path) -> None:
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        address = connection.getpeername()

        @settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
        @given(
            st.sampled_from(["spikes", "notes", "letters", "dropping"]),
            BODIES,
            st.sampled_from(TYPES),
        )
        def agree(table: str, body: bytes, media_type: str) -> None:
            said = {"Content-Type": media_type}
            # A connection for each: one that is quiet while an example is made up is closed.
            with socket.create_connection(address, timeout=60) as asking:
                asking.sendall(request(table, body, said))
                fast = receive(asking)
                asking.sendall(request(f"{table}_usual", body, said | USUAL))
                usual = receive(asking)
            # The same words, but for the name of the table.
            assert json.loads(json.dumps(fast).replace(f"lab.{table}'", f"lab.{table}_usual'"))[
                ::2
            ] == list(usual[::2])
            assert {**fast[1], "date": "", "content-length": ""} == {
                **usual[1],
                "date": "",
                "content-length": "",
            }

        agree()
        for table in ("spikes", "notes", "letters", "dropping"):
            kept = stored(lake.queue(), f"lab.{table}")
            assert kept == stored(lake.queue(), f"lab.{table}_usual")


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    """Small ones that are stored, one that is refused, and one that goes the usual way."""
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        rows = [GOOD | {"channel": n} for n in range(40)]
        bodies = [json.dumps(row).encode() for row in rows]
        requests = [request("spikes", body) for body in bodies]
        requests[7] = request("spikes", b'{"channel": 1}')
        requests[11] = request("spikes", bodies[11], USUAL)
        requests[20] = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

        connection.sendall(b"".join(requests))

        answers = [receive_one(connection) for _ in requests]
        assert [status for status, _ in answers] == [
            {7: 422, 20: 200}.get(n, 202) for n in range(40)
        ]
        positions = [told["position"] for status, told in answers if status == 202]
        assert positions == sorted(set(positions))
        kept = [row["channel"] for row in stored(lake.queue(), "lab.spikes")]
        assert kept == [n for n in range(40) if n not in (7, 20)]


def receive_one(connection: socket.socket) -> tuple[int, Any]:
    """One answer, and not a byte more of what comes behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return int(head.split()[1]), json.loads(body)


def test_a_body_in_pieces_is_stored_when_it_is_whole(tmp_path: Path) -> None:
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        sent = request("spikes", json.dumps(GOOD).encode())
        for at in range(0, len(sent), 7):
            connection.sendall(sent[at : at + 7])

        assert receive(connection)[0] == 202
        assert len(stored(lake.queue(), "lab.spikes")) == 1


def test_half_a_request_is_not_stored(tmp_path: Path) -> None:
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        connection.sendall(request("spikes", json.dumps(GOOD).encode())[:-3])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""  # Closed, since it will not come.

        assert stored(lake.queue(), "lab.spikes") == []


@pytest.mark.parametrize(
    ("headers", "closes"),
    [({"Connection": "close"}, True), ({"Expect": "100-continue"}, False)],
)
def test_what_a_request_asks_of_its_connection_is_done(
    tmp_path: Path, headers: dict[str, str], closes: bool
) -> None:
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        connection.sendall(request("spikes", json.dumps(GOOD).encode(), headers))

        status, answered, _ = receive(connection)

        assert (status, answered.get("connection")) == (202, "close" if closes else None)
        if closes:
            assert connection.recv(10) == b""
        else:
            connection.sendall(request("spikes", json.dumps(GOOD).encode()))
            assert receive(connection)[0] == 202


def test_a_token_counts_until_it_is_revoked_and_each_write_is_in_the_audit_log(
    tmp_path: Path,
) -> None:
    lake = catalog(tmp_path)
    tokens = TokenFile(lake.settings.tokens_path)
    with serving(lake) as connection:
        body = json.dumps(GOOD).encode()
        token, secret = tokens.create("device", write=["lab.spikes"])
        said = {"Authorization": f"Bearer {secret}"}

        def status(table: str, headers: dict[str, str]) -> int:
            connection.sendall(request(table, body, headers))
            return receive(connection)[0]

        assert [status("spikes", said), status("notes", said), status("spikes", {})] == [
            202,
            403,
            401,
        ]
        tokens.revoke(token.id)
        while (answered := status("spikes", said)) == 202:
            pass  # A hundredth of a second.
        assert answered == 401

    lines = [json.loads(line) for line in lake.settings.audit_path.read_text().splitlines()]
    told = [{name: line[name] for name in ("token", "table", "status")} for line in lines]
    assert told[:2] == [
        {"token": token.id, "table": "lab.spikes", "status": 202},
        {"token": token.id, "table": "lab.notes", "status": 403},
    ]
    assert (lines[0]["rows"], lines[0]["position"], lines[0]["remote"]) == (1, 1, "127.0.0.1")


def test_a_request_that_does_not_fit_counts_once_for_its_sender(tmp_path: Path) -> None:
    """Though it is looked at twice: 20 in a burst of two seconds are 20, fitting or not."""
    lake = catalog(tmp_path, server=ServerSettings(requests_per_s_max=14))
    # Which takes 8 of the burst of 28; none come back while the clock stands.
    with serving(lake, clock=ManualClock()) as connection:
        for _ in range(20):
            connection.sendall(request("spikes", b'{"channel": 1}'))
            assert receive(connection)[0] == 422

        connection.sendall(request("spikes", json.dumps(GOOD).encode()))
        status, headers, _ = receive(connection)
        assert (status, headers["retry-after"]) == (429, "1")


def test_a_full_queue_is_told_with_when_to_come_back(tmp_path: Path) -> None:
    lake = catalog(tmp_path, queue=QueueSettings(table_rows_max=2))
    telemetry = Telemetry()
    with serving(lake, telemetry) as connection:
        answers = []
        for _ in range(3):
            connection.sendall(request("spikes", json.dumps(GOOD).encode()))
            answers.append(receive(connection))

        assert [status for status, _, _ in answers] == [202, 202, 429]
        _, headers, told = answers[-1]
        assert headers["content-type"] == "application/problem+json"
        assert (headers["retry-after"], told["limit"], told["unit"]) == ("1", 2, "rows")
        assert telemetry.counter("ingest_refused", status="429") == 1
        assert telemetry.counter("ingest_rows", table="lab.spikes") == 2


def test_a_client_that_breaks_off_behind_its_request_harms_nobody(tmp_path: Path) -> None:
    """Its first request waits to be stored while what follows closes its connection."""
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        address, body = connection.getpeername(), json.dumps(GOOD).encode()
        for _ in range(30):
            with socket.create_connection(address, timeout=60) as bad:
                bad.sendall(request("spikes", body) + b"garbage\r\n\r\n")
                connection.sendall(request("spikes", body))
                assert receive(connection)[0] == 202

        assert 30 <= len(stored(lake.queue(), "lab.spikes")) <= 60


def test_pipelining_without_end_is_ended(tmp_path: Path) -> None:
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        address, one = connection.getpeername(), request("spikes", json.dumps(GOOD).encode())

        def flood() -> None:
            while True:
                connection.sendall(one * 1000)

        with pytest.raises(ConnectionError):
            flood()
        with socket.create_connection(address, timeout=60) as other:
            other.sendall(one)
            assert receive(other)[0] == 202


@pytest.mark.parametrize("count", [1, 3])
def test_what_was_dropped_is_told_to_each_sender(tmp_path: Path, count: int) -> None:
    lake = catalog(tmp_path)
    with serving(lake) as connection:
        rows = [{"author": "a", "mood": 1}] * count
        connection.sendall(request("dropping", json.dumps(rows).encode()))

        assert receive(connection)[2] == {
            "position": 1,
            "rows": count,
            "repeated": False,
            "dropped_columns": {"mood": count},
        }


def test_only_plain_posts_of_small_json_take_the_fast_path(tmp_path: Path) -> None:
    lake = catalog(tmp_path)
    clock = SystemClock()
    targets = Targets(lake, Watches(lake))
    accounts = Accounts(lake.settings, clock=clock, telemetry=Telemetry())
    door = Door(TokenFile(lake.settings.tokens_path))
    fast_path = FastPath(door, targets, accounts, clock=clock)

    def takes(path: str = "/v1/lab/spikes", query: bytes = b"", **more: str) -> bool:
        headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": "30"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        scope = {
            "method": "POST",
            "path": path,
            "query_string": query,
            "headers": [(n.encode(), value.encode()) for n, value in headers.items()],
        }
        return fast_path.head(scope) is not None

    assert not takes()  # The usual way finds a table the first time.
    targets.find("lab", "spikes")
    assert takes()
    assert takes(user_agent="curl/8", content_type="application/x-ndjson")
    assert not takes(path="/v1/lab/notes")
    assert not takes(path="/v1/lab/spikes/tail")
    assert not takes(query=b"wait=committed")
    assert not takes(idempotency_key="k")
    assert not takes(neuralake_producer="p", neuralake_sequence="1")
    assert not takes(content_encoding="gzip")
    assert not takes(content_type="application/vnd.apache.arrow.stream")
    assert not takes(content_length="5000")
    assert not takes(content_length="-1")
    assert not takes(host="example.org")
    assert not takes(origin="http://example.org")
    lake.queue().close()
