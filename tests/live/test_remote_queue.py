"""A lake on another machine: the same tables, and the queue of a platform over HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import msgspec
import pytest
from certificates import make_certificate
from ingest_lake import lake
from ingest_server import served
from live_notes import TOPIC, Traffic, running, send, trim, writer

from neuralake.catalog import Catalog
from neuralake.clock import ManualClock
from neuralake.errors import (
    Conflict,
    Forbidden,
    NeedsAttention,
    SettingsError,
    Trimmed,
    Unavailable,
    UnknownName,
    UsageError,
)
from neuralake.ingest.server import RunningServer, start_server
from neuralake.ingest.tokens import TokenFile
from neuralake.queue import RemoteQueue
from neuralake.settings import QueueSettings, ServerSettings, Settings
from neuralake.supervise import Platform
from neuralake.writer import run_writer


def elsewhere(catalog: Catalog, url: str, token_file: str = "") -> Catalog:
    """The same lake as another machine sees it."""
    found = catalog.settings
    queue = QueueSettings(kind="http", url=url, token_file=token_file)
    settings = Settings(folder=found.folder, lake=found.lake, queue=queue)
    return lake(Path(found.folder)).bound_to(settings)


@pytest.fixture
def remote(catalog: Catalog, server: RunningServer) -> Iterator[Catalog]:
    found = elsewhere(catalog, server.url)
    yield found
    found.close()


def texts(catalog: Catalog) -> list[str]:
    frame = catalog.db("lab").table("notes", live=True).collect()
    return sorted(frame["text"].to_list())


def test_a_frame_on_another_machine_has_what_is_acknowledged(
    catalog: Catalog, remote: Catalog
) -> None:
    assert texts(remote) == []
    queue, write = catalog.queue(), writer(catalog)
    send(queue, "a", "b")
    assert texts(remote) == ["a", "b"]

    write.step(flush=True)
    send(queue, "c")
    assert texts(remote) == ["a", "b", "c"]

    trim(queue, write.position)
    assert texts(remote) == ["a", "b", "c"]


def test_a_long_tail_comes_in_several_answers(
    catalog: Catalog, remote: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralake.queue.remote.TAIL_BYTES_MAX", 2000)
    for number in range(30):
        send(catalog.queue(), f"{number:02}")

    assert texts(remote) == [f"{number:02}" for number in range(30)]


def test_it_reads_what_the_queue_there_says(catalog: Catalog, remote: Catalog) -> None:
    here, there = catalog.queue(), remote.queue()
    send(here, "a")
    last = send(here, "b", "c")
    trim(here, 1)

    assert isinstance(there, RemoteQueue)
    assert there.id == here.id
    assert there.topics() == [TOPIC]
    assert there.partitions(TOPIC) == [TOPIC]
    assert there.bounds(TOPIC) == here.bounds(TOPIC)
    (found,) = there.read(TOPIC, after=1)
    (stored,) = here.read(TOPIC, after=1)
    assert (found.position, found.rows, found.appended_s) == (last, 2, stored.appended_s)
    assert there.read(TOPIC, after=last) == []
    with pytest.raises(Trimmed) as caught:
        there.read(TOPIC, after=0)
    assert caught.value.trimmed == 1
    with pytest.raises(UnknownName):
        there.bounds("lab.none")


def test_it_changes_nothing_and_says_who_does(remote: Catalog) -> None:
    queue = remote.queue()

    with pytest.raises(UsageError, match=r"POST http://127.*/v1/lab/notes"):
        send(queue, "a")
    with pytest.raises(UsageError, match="the writer there"):
        queue.trim(TOPIC, through=1, appended_before_s=0.0)
    with pytest.raises(UsageError, match="only the writer there"):
        queue.claim(TOPIC)
    for start in (
        lambda: run_writer(remote, stop=threading.Event()),
        lambda: Platform(remote).start(),
    ):
        with pytest.raises(UsageError, match="by the platform there"):
            start()
    queue.close()
    with pytest.raises(UsageError, match="closed"):
        queue.partitions(TOPIC)


def test_rows_that_are_posted_to_the_other_machine_are_refused_with_the_way(
    remote: Catalog,
) -> None:
    with start_server(remote) as server:
        note = {"author": "a", "text": "b"}
        answer = httpx.post(f"{server.url}/v1/lab/notes", json=note, timeout=60)

    assert answer.status_code == 400
    assert "send rows to POST" in answer.json()["detail"]


CHILD = """
import json, sys
from pathlib import Path
from ingest_lake import lake
from neuralake.settings import QueueSettings, ServerSettings, Settings
import msgspec
given = lake(Path(sys.argv[1]))
queue = QueueSettings(kind="http", url=sys.argv[2])
catalog = given.bound_to(msgspec.structs.replace(given.settings, queue=queue))
for _ in sys.stdin:
    frame = catalog.db("lab").table("notes", live=True).collect()
    print(json.dumps(sorted(frame["text"].to_list())), flush=True)
"""


def test_a_frame_in_another_process_survives_that_the_server_is_killed(tmp_path: Path) -> None:
    """Its kept connection breaks; the question is asked again, and answered by the next server."""
    support = Path(__file__).parents[1] / "support"
    with served(tmp_path) as server:
        reader = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=support,
            text=True,
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        try:
            for text in ("a", "b", "c"):
                note = {"author": "ann", "text": text}
                httpx.post(f"{server.url}/v1/lab/notes", json=note, timeout=60).raise_for_status()
                reader.stdin.write("\n")
                reader.stdin.flush()
                if text == "b":  # While the reader asks, perhaps.
                    server.kill()
                    server.restart()
                assert json.loads(reader.stdout.readline())[-1] == text
        finally:
            reader.stdin.close()
            assert reader.wait(timeout=30) == 0
            reader.stdout.close()


def test_readers_elsewhere_race_a_writer_that_commits_and_trims(
    catalog: Catalog, remote: Catalog
) -> None:
    """Every frame over HTTP is complete and exact, while rows come, are committed and trimmed."""
    traffic = Traffic(catalog)
    with running(traffic.jobs) as failures:
        for number in count():
            if failures or (number >= 12 and traffic.is_trimmed):
                break
            acknowledged = traffic.sent
            found = texts(remote)
            assert found == [f"{row:06}" for row in range(len(found))]
            assert len(found) >= acknowledged
    assert catalog.queue().bounds(TOPIC).trimmed > 0


def test_a_queue_that_was_made_anew_is_told_once_and_then_gone_by(
    catalog: Catalog, remote: Catalog, server: RunningServer, tmp_path: Path
) -> None:
    """The frame reads again by itself; whoever holds a position of the old one is told."""
    send(catalog.queue(), "old")
    assert texts(remote) == ["old"]
    server.stop()
    catalog.close()
    for file in (tmp_path / "lake" / ".neuralake").glob("queue.sqlite*"):
        file.unlink()

    again = lake(tmp_path)
    with start_server(again, port=int(server.url.rpartition(":")[2])):
        send(again.queue(), "new")
        with pytest.raises(Conflict, match="made anew"):
            remote.queue().read(TOPIC, after=0)
        assert texts(remote) == ["new"]
    again.close()


def test_the_token_comes_from_a_file_or_the_environment(
    catalog: Catalog, server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(catalog.queue(), "a")
    tokens = TokenFile(catalog.settings.tokens_path)
    _, reads = tokens.create("me", read=["*"])
    _, writes = tokens.create("rig", write=["*"])
    (tmp_path / "token").write_text(f"{reads}\n")

    found = elsewhere(catalog, server.url, token_file="token")  # noqa: S106 a file
    assert texts(found) == ["a"]
    found.close()
    monkeypatch.setenv("NEURALAKE_TOKEN", writes)
    found = elsewhere(catalog, server.url, token_file="token")  # noqa: S106 a file
    with pytest.raises(Forbidden):
        found.queue().read(TOPIC, after=0)
    found.close()
    with pytest.raises(SettingsError, match="can be read on the way"):
        elsewhere(catalog, "http://lake.example:8765").queue()
    monkeypatch.delenv("NEURALAKE_TOKEN")
    with pytest.raises(SettingsError, match=r"queue\.token_file .* cannot be read"):
        elsewhere(catalog, server.url, token_file="none").queue()  # noqa: S106 a file


@pytest.mark.parametrize(
    "url", ["", "lake.example:8765", "ftp://x", "https://u:p@x", "http://x:y", "http://x/?a=1"]
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"queue\.url"):
        Settings(queue=QueueSettings(kind="http", url=url))


def test_a_server_that_is_not_there_is_waited_for_and_then_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens there.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        clock = ManualClock()
        queue = RemoteQueue(QueueSettings(kind="http", url=url), clock=clock)
        began_s = clock.monotonic_s()

        with pytest.raises(Unavailable, match="neuralake up"):
            queue.partitions(TOPIC)

    assert 5 < clock.monotonic_s() - began_s < 15


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """The URL of a server that gives `answers`, one for each connection, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def asking(url: str) -> contextlib.closing[RemoteQueue]:
    """A queue that waits without taking time."""
    queue = RemoteQueue(QueueSettings(kind="http", url=url), clock=ManualClock())
    return contextlib.closing(queue)


def http_answer(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


TOPICS = b'{"queue": "q", "topics": ["lab.notes"]}'


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        http_answer(TOPICS[:10], length=len(TOPICS)),
        http_answer(b"restarting", status="502 Bad Gateway"),
        http_answer(b"{}", status="429 Too Many Requests"),
    ],
    ids=["nothing", "half a head", "half a body", "a proxy without a server", "too many"],
)
def test_an_answer_that_is_none_is_asked_for_again(first: bytes) -> None:
    with answering(first, http_answer(TOPICS)) as url, asking(url) as queue:
        assert queue.topics() == [TOPIC]


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http_answer(b"<html>hello</html>"), NeedsAttention, "of this release"),
        (http_answer(b'{"queue": 1}'), NeedsAttention, "of this release"),
        (http_answer(b"", status="302 Found"), UsageError, "answered 302"),
        (http_answer(b"\xff", status="500 Oops"), NeedsAttention, "answered 500"),
    ],
)
def test_what_no_server_of_ours_answers_is_told(
    answer: bytes, error: type[Exception], says: str
) -> None:
    with answering(answer) as url, asking(url) as queue, pytest.raises(error, match=says):
        queue.topics()


def test_a_server_with_a_certificate_of_its_own_is_trusted_by_name_of_the_file(
    tmp_path: Path,
) -> None:
    make_certificate(tmp_path)
    tls = ServerSettings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    given = lake(tmp_path)
    catalog = given.bound_to(msgspec.structs.replace(given.settings, server=tls))
    _, token = TokenFile(catalog.settings.tokens_path).create("me", read=["*"])
    (tmp_path / "token").write_text(token)
    send(catalog.queue(), "a")

    with start_server(catalog) as server:
        known = {"kind": "http", "url": server.url, "token_file": "token"}
        trusting = msgspec.convert(known | {"ca_file": "cert.pem"}, QueueSettings)
        with contextlib.closing(RemoteQueue(trusting, folder=tmp_path)) as queue:
            assert queue.bounds(TOPIC).last == 1
        doubting = RemoteQueue(msgspec.convert(known, QueueSettings), folder=tmp_path)
        with contextlib.closing(doubting), pytest.raises(UsageError, match=r"queue\.ca_file"):
            doubting.bounds(TOPIC)
    catalog.close()
