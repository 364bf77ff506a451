"""Live SQL: stream tables hold every acknowledged row, each once, as a live frame does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl
import pyarrow as pa
import pytest
from ingest_lake import lake
from live_notes import TOPIC, Traffic, running, send, trim, writer
from typer.testing import CliRunner

from neuralake.catalog import Catalog
from neuralake.errors import NeuralakeError, TooLarge, Trimmed
from neuralake.ingest.tokens import TokenFile
from neuralake.queue import MemoryQueue, open_queue
from neuralake.serve.gateway import Gateway, limits_of
from neuralake.settings import load_settings


@pytest.fixture
def gateway(catalog: Catalog) -> Iterator[Gateway]:
    with Gateway(catalog, processes=1) as gateway:
        yield gateway


def ask(gateway: Gateway, sql: str, *, live: bool = True) -> list[tuple[Any, ...]]:
    with gateway.query(sql, "arrow", live=live) as query:
        query.open()
        rows = pa.ipc.open_stream(b"".join(query.parts())).read_all()
    return [tuple(row.values()) for row in rows.to_pylist()]


TEXTS = "SELECT text FROM lab.notes ORDER BY text"


def test_a_row_is_there_as_soon_as_it_is_acknowledged(catalog: Catalog, gateway: Gateway) -> None:
    """Before the table is made, before the commit, after it, and after what is committed went."""
    assert ask(gateway, TEXTS) == []
    send(catalog.queue(), "a", "b")
    assert ask(gateway, TEXTS) == [("a",), ("b",)]
    assert ask(gateway, TEXTS, live=False) == []

    write = writer(catalog)
    write.step(flush=True)
    send(catalog.queue(), "c")
    assert ask(gateway, TEXTS) == [("a",), ("b",), ("c",)]
    assert ask(gateway, TEXTS, live=False) == [("a",), ("b",)]

    trim(catalog.queue(), write.position)
    assert ask(gateway, TEXTS) == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT count(*) FROM lab.notes", [(60,)]),
        ("SELECT * FROM lab.notes WHERE text = '31'", [("bob", "31")]),
        ("SELECT * FROM lab.notes WHERE text = '51' AND author = 'bob'", [("bob", "51")]),
        (
            "SELECT author, count(*) FROM lab.notes GROUP BY 1 ORDER BY 1 DESC",
            [("bob", 30), ("ann", 30)],
        ),
        ("SELECT max(text) FROM lab.notes WHERE author = 'ann'", [("58",)]),
        ("SELECT text FROM lab.notes ORDER BY text DESC LIMIT 2", [("59",), ("58",)]),
        ("SELECT count(*) FROM lab.notes a JOIN lab.notes b ON a.text = b.text", [(60,)]),
        ("SELECT count(*) FROM lab.notes WHERE text IN (SELECT max(text) FROM lab.notes)", [(1,)]),
        (
            "WITH RECURSIVE r AS (SELECT '00' AS t UNION ALL SELECT n.text FROM lab.notes n "
            "JOIN r ON CAST(n.text AS INT) = CAST(r.t AS INT) + 1) SELECT count(*) FROM r",
            [(60,)],
        ),
        ("SELECT count(*) FROM lab.notes UNION ALL SELECT count(*) FROM lab.spikes", [(60,), (0,)]),
    ],
)
def test_any_query_sees_both_parts_once(
    busy: tuple[Catalog, Gateway], sql: str, rows: list[tuple[Any, ...]]
) -> None:
    found = ask(busy[1], sql)

    assert sorted(found, reverse=True) == rows


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalog, Gateway]]:
    """Texts 00 to 59 of two authors in turn: 40 in four commits, 20 in the queue."""
    catalog = lake(tmp_path_factory.mktemp("busy"))
    write = writer(catalog)
    for start in range(0, 60, 10):
        send(catalog.queue(), *[f"{number:02}" for number in range(start, start + 10)])
        if start < 40:
            write.step(flush=True)
    with Gateway(catalog, processes=1) as gateway:
        yield catalog, gateway
    catalog.close()


def test_it_says_what_a_live_frame_says(busy: tuple[Catalog, Gateway]) -> None:
    catalog, gateway = busy
    frame = catalog.db("lab").table("notes", live=True).sort("text").collect()

    assert ask(gateway, "SELECT author, text FROM lab.notes ORDER BY text") == frame.rows()


def test_every_answer_is_complete_and_exact_while_rows_come_and_are_trimmed(
    catalog: Catalog,
) -> None:
    traffic = Traffic(catalog)
    with Gateway(catalog, processes=1) as gateway, running(traffic.jobs) as failures:
        for number in count():
            if failures or (number >= 10 and traffic.is_trimmed):
                break
            acknowledged = traffic.sent
            found = [text for (text,) in ask(gateway, TEXTS)]
            assert found == [f"{row:06}" for row in range(len(found))]
            assert len(found) >= acknowledged
    assert catalog.queue().bounds(TOPIC).trimmed > 0


def test_over_http_it_is_asked_for_in_the_body_and_needs_the_table_to_be_readable(
    catalog: Catalog, client: httpx.Client
) -> None:
    send(catalog.queue(), "a")
    _, reads = TokenFile(catalog.settings.tokens_path).create("me", read=["lab.notes"])
    _, writes = TokenFile(catalog.settings.tokens_path).create("rig", write=["*"])

    def post(token: str, live: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return client.post("/api/sql", json={"sql": TEXTS, "live": live}, headers=headers)

    assert post(reads, True).json()["rows"] == [["a"]]
    assert post(reads, False).json()["rows"] == []
    assert post(writes, True).status_code == 404
    assert post(reads, "yes").status_code == 400


def test_a_tail_that_does_not_fit_is_refused_and_the_next_query_answered(
    catalog: Catalog,
) -> None:
    """A writer that stands still must not end the server's memory."""
    for _ in range(3):
        send(catalog.queue(), "x" * 5_000_000)
    limits = msgspec.structs.replace(limits_of(catalog), memory_bytes_max=32 * 1024 * 1024)

    with Gateway(catalog, processes=1, limits=limits) as gateway:
        with pytest.raises(TooLarge, match="Is the writer running"):
            ask(gateway, "SELECT count(*) FROM lab.notes")
        assert ask(gateway, "SELECT count(*) FROM lab.notes", live=False) == [(0,)]


class EverTrimmed(MemoryQueue):
    def read(self, partition: str, **kwargs: Any) -> Any:
        raise Trimmed(f"{partition} is trimmed.", topic=partition, after=0, trimmed=1)


class Broken(MemoryQueue):
    def read(self, partition: str, **kwargs: Any) -> Any:
        raise OSError("the secret password is 1234")


@pytest.mark.parametrize(
    ("queue", "says"), [(EverTrimmed(), "is trimmed"), (Broken(), "its queue failed with OSError")]
)
def test_a_queue_that_cannot_be_read_fails_this_query_only(
    tmp_path: Path, queue: MemoryQueue, says: str
) -> None:
    catalog = lake(tmp_path)
    catalog._queue = queue
    send(queue, "a")

    with Gateway(catalog, processes=1) as gateway:
        with pytest.raises(NeuralakeError, match=says) as caught:
            ask(gateway, TEXTS)
        assert "1234" not in str(caught.value)
        assert ask(gateway, TEXTS, live=False) == []


def test_on_the_terminal_it_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuralake.cli.app import app

    (tmp_path / "neuralake.toml").write_text("[lake]\ncatalog = 'terminal_lake:catalog'\n")
    (tmp_path / "terminal_lake.py").write_text(
        "import neuralake as nl, pyarrow as pa\n"
        "notes = nl.DeltaTable('notes', 'notes', pa.schema([('author', pa.string()), "
        "('text', pa.string())]), stream=nl.Stream())\n"
        "catalog = nl.Catalog({'lab': [notes]})\n"
    )
    monkeypatch.chdir(tmp_path)
    queue = open_queue(load_settings())
    send(queue, "a")
    queue.close()

    answers = [
        CliRunner().invoke(app, ["query", *options, "-f", "json", "SELECT text FROM lab.notes"])
        for options in (["--live"], [])
    ]

    assert [answer.exit_code for answer in answers] == [0, 0], answers[0].output
    assert json.loads(answers[0].stdout) == {"text": "a"}
    assert answers[1].stdout == ""


def test_the_answer_is_a_frame_for_who_wants_one(busy: tuple[Catalog, Gateway]) -> None:
    from neuralake.serve.query import query

    rows = pl.DataFrame(query(busy[0], "SELECT count(*) AS n FROM lab.notes", live=True))

    assert rows.rows() == [(60,)]
