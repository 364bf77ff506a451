"""The client against a real server: what `send` takes is stored once, in order, or told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from canned_http import STORED, Canned, canned_http
from ingest_lake import SPIKES, stored
from sent_spikes import NOBODY, TABLE, channels, send_each, spike, spikes

from neuralake.errors import (
    InvalidRows,
    NeedsAttention,
    NeuralakeError,
    QueueFull,
    TooLarge,
    Unavailable,
    UnknownName,
    UnsupportedMedia,
    UsageError,
)
from neuralake.ingest import AsyncClient, Client, Rejected
from neuralake.queue import Queue


def test_what_is_sent_is_stored_in_order_and_together(url: str, queue: Queue) -> None:
    with Client(url, linger_s=60) as client:
        for channel in range(500):
            client.send(TABLE, spike(channel))
        client.send(TABLE, [spike(500), spike(501)])
        assert client.rows_waiting == 502
        client.flush()
        assert client.rows_waiting == 0

    assert channels(queue) == list(range(502))
    assert queue.bounds(TABLE).last == 1


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda t: t, id="table"),
        pytest.param(lambda t: t.to_batches()[0], id="batch"),
        pytest.param(pl.from_arrow, id="polars"),
        pytest.param(lambda t: t.to_pylist(), id="records"),
        pytest.param(lambda t: iter(t.to_pylist()), id="iterator"),
        pytest.param(
            lambda t: t.set_column(0, "session", t["session"].dictionary_encode()), id="dictionary"
        ),
    ],
)
def test_rows_come_in_many_forms(url: str, queue: Queue, form: Callable[[Any], Any]) -> None:
    table = pa.table(
        {
            "session": ["a", "b", "c"],
            "time": [datetime(2026, 1, 2, tzinfo=UTC), None, None],
            "channel": [1, 2, 3],
            "rate": [0.5, float("nan"), float("inf")],
        },
        schema=SPIKES,
    )
    with Client(url) as client:
        client.send(TABLE, form(table))

    assert str(stored(queue, TABLE)) == str(table.to_pylist())


def test_forms_may_alternate_without_losing_their_order(url: str, queue: Queue) -> None:
    with Client(url) as client:
        for n in range(0, 60, 3):
            client.send(TABLE, spike(n))
            client.send(TABLE, spikes(n + 1))
            client.send(TABLE, pl.from_arrow(spikes(n + 2)))

    assert channels(queue) == list(range(60))


def test_one_call_with_many_rows_goes_in_several_requests(url: str, queue: Queue) -> None:
    with Client(url, batch_rows_max=100) as client:
        client.send(TABLE, spikes(*range(1000)))
        client.send(TABLE, [spike(n) for n in range(1000, 1250)])

    assert channels(queue) == list(range(1250))
    assert queue.bounds(TABLE).last == 13


def test_threads_share_a_client_and_each_keeps_its_order(url: str, queue: Queue) -> None:
    with Client(url, batch_rows_max=7) as client, ThreadPoolExecutor(4) as pool:
        for first in range(0, 4000, 1000):
            pool.submit(send_each, client, range(first, first + 50))

    found = channels(queue)
    assert len(found) == len({*found}) == 200
    for first in range(0, 4000, 1000):
        assert [n for n in found if first <= n < first + 1000] == list(range(first, first + 50))


@pytest.mark.parametrize("spooled", [False, True])
def test_a_row_that_does_not_fit_takes_no_other_with_it(
    url: str, queue: Queue, tmp_path: Path, spooled: bool
) -> None:
    refused: list[Rejected] = []
    spool = tmp_path / "spool" if spooled else None
    with Client(url, spool=spool, on_rejected=refused.append) as client:
        for n in range(20):
            client.send(TABLE, spike(n if n % 7 else 100_000 + n))
        client.flush()
        client.send(TABLE, spike(20))

    assert channels(queue) == [n for n in range(21) if n % 7]
    assert [found.rows()[0]["channel"] for found in refused] == [100_000, 100_007, 100_014]
    assert all(found.error.facts["column"] == "channel" for found in refused)


def test_without_a_callback_flush_raises_what_was_refused(
    url: str, queue: Queue, tmp_path: Path
) -> None:
    client = Client(url, spool=tmp_path / "spool")
    client.send(TABLE, spikes(1))
    client.send(TABLE, [spike(2), {"session": "s", "chanel": 3}])

    with pytest.raises(InvalidRows, match="2 rows were refused") as caught:
        client.flush()
    client.close()

    assert [found.count for found in caught.value.rejected] == [2]
    kept = Path(caught.value.rejected[0].error.kept_in)
    assert (kept.parent.name, kept.suffix) == ("rejected", ".ndjson")
    assert b"chanel" in kept.read_bytes()
    assert channels(queue) == [1]


def test_a_table_that_is_not_there_keeps_the_rows_and_is_told(url: str, tmp_path: Path) -> None:
    client = Client(url, spool=tmp_path / "spool")
    client.send("lab.spike", spike(1))

    with pytest.raises(UnknownName, match="spikes"):
        client.flush()
    assert client.rows_waiting == 1
    with pytest.raises(UnknownName):
        client.close()
    with pytest.raises(UsageError, match="closed"):
        client.send(TABLE, spike(1))
    client.close()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("text", "str"),
        (7, "int"),
        ([1, 2], "int"),
        ({"a": object()}, "object"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame"),
        (pa.array([1, 2]), "no table"),
    ],
)
def test_what_are_no_rows_is_refused_at_once(rows: Any, said: str) -> None:
    client = Client(NOBODY)
    with pytest.raises(UsageError, match=said):
        client.send(TABLE, rows)
    with pytest.raises(UsageError, match=r"database\.table"):
        client.send("spikes", {"a": 1})
    client.close()


def test_nothing_to_send_is_fine(url: str, queue: Queue) -> None:
    with Client(url) as client:
        client.send(TABLE, [])
        client.send(TABLE, SPIKES.empty_table())

    assert queue.topics() == []


def test_what_is_held_is_bounded(tmp_path: Path) -> None:
    client = Client(NOBODY, bytes_max=1000, block_s_max=0)
    with pytest.raises(TooLarge):
        client.send(TABLE, {"session": "x" * 2000})
    with pytest.raises(QueueFull, match="1000 bytes"):
        send_each(client, range(1000))
    waiting = client.rows_waiting
    with pytest.raises(Unavailable, match="not acknowledged") as caught:
        client.close(timeout_s=0.01)

    assert 20 < waiting < 50
    assert caught.value.rows == waiting


def test_a_full_client_waits_for_room(url: str, queue: Queue) -> None:
    with Client(url, bytes_max=500, batch_rows_max=3) as client:
        for n in range(300):
            client.send(TABLE, spike(n))

    assert channels(queue) == list(range(300))


def test_an_absent_server_is_told_by_flush(tmp_path: Path) -> None:
    client = Client(NOBODY, spool=tmp_path / "spool")
    client.send(TABLE, spike(1))

    with pytest.raises(Unavailable, match="1 row is not acknowledged"):
        client.close(timeout_s=0.05)


def test_a_spool_is_sent_by_the_next_client(url: str, queue: Queue, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    for n in range(3):
        client = Client(NOBODY, spool=spool)
        client.send(TABLE, spike(n))
        client.send("lab.notes", {"author": "a", "text": str(n)})
        with pytest.raises(Unavailable):
            client.close(timeout_s=0.0)

    client = Client(NOBODY, spool=spool)
    assert client.rows_waiting == 6
    with pytest.raises(Unavailable):
        client.close(timeout_s=0.0)
    with Client(url, spool=spool):
        pass

    assert channels(queue) == [0, 1, 2]
    assert [row["text"] for row in stored(queue, "lab.notes")] == ["0", "1", "2"]
    assert [*spool.glob("*/*.open"), *spool.glob("*/*.sealed")] == []


def test_a_spool_has_one_client(tmp_path: Path) -> None:
    first = Client(NOBODY, spool=tmp_path)
    with pytest.raises(UsageError, match="in use"):
        Client(NOBODY, spool=tmp_path)
    first.close()

    Client(NOBODY, spool=tmp_path).close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_client_of_before_a_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    client = Client(NOBODY, spool=tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.send(TABLE, spike(1))
        except UsageError as error:
            client.close()
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    client.close()
    Client(NOBODY, spool=tmp_path).close()

    assert b"before a fork" in os.read(read, 1000)
    os.close(read)
    os.close(write)


def test_the_asynchronous_client_does_the_same(url: str, queue: Queue) -> None:
    async def run() -> None:
        async with AsyncClient(url) as client:
            for n in range(100):
                await client.send(TABLE, spike(n))
            await client.flush()
            assert client.rows_waiting == 0
            await asyncio.gather(*(client.send(TABLE, spike(n)) for n in range(100, 200)))

    asyncio.run(run())

    assert channels(queue) == list(range(200))


def test_a_full_asynchronous_client_holds_up_nobody_else(url: str) -> None:
    async def run() -> None:
        client = AsyncClient(NOBODY, bytes_max=100)
        sends = [asyncio.create_task(client.send(TABLE, spike(n))) for n in range(50)]
        while not client.rows_waiting:
            await asyncio.sleep(0.001)
        assert await asyncio.to_thread(lambda: 7) == 7
        with pytest.raises(Unavailable):
            await client.close(timeout_s=0.0)
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert {type(found) for found in results} <= {type(None), UsageError}

    asyncio.run(run())


def test_an_error_in_the_block_is_the_one_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Client(f"{NOBODY}", spool=tmp_path) as client:
        _ = 1 / 0
    assert client.rows_waiting == 0


# Answers that a server of ours gives rarely


def test_lost_answers_and_refusals_for_now_are_sent_again_under_one_number() -> None:
    answers = [
        Canned(0),
        Canned(503, retry_after=0),
        Canned(429),
        Canned(500),
        Canned(200, b"<html>a portal</html>"),
        Canned(202, b'{"position":1}'),
    ]
    with canned_http(answers) as (url, seen), Client(url) as client:
        client.send(TABLE, spike(1))
        client.flush()
        client.send(TABLE, spike(2))

    assert [request["neuralake-sequence"] for request in seen] == ["1"] * 6 + ["2"]
    assert len({request["neuralake-producer"] for request in seen}) == 1
    assert len({request["body"] for request in seen[:6]}) == 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_the_server_reads_compressed_bodies(url: str, queue: Queue, compression: Any) -> None:
    with Client(url, compression=compression) as client:
        client.send(TABLE, [spike(n) for n in range(1000)])
        client.send(TABLE, spikes(*range(1000, 2000)))

    assert channels(queue) == list(range(2000))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bodies_are_compressed_if_asked_for(compression: Any) -> None:
    with (
        canned_http([Canned(202, b'{"position":1}')]) as (url, seen),
        Client(url, compression=compression) as client,
    ):
        client.send(TABLE, [spike(n) for n in range(1000)])

    codec = {"gzip": "gzip", "zstd": "zstd"}[compression]
    plain = pa.CompressedInputStream(pa.BufferReader(seen[0]["body"]), codec).read()
    assert seen[0]["content-encoding"] == compression
    assert plain.count(b"\n") == 1000


REFUSED = b'{"type":"urn:neuralake:problem:invalid-rows","detail":"no","row":0}'
UNKNOWN = b'{"type":"urn:neuralake:problem:unknown-producer","detail":"who?","expected":1}'


def test_a_sender_that_was_forgotten_while_quiet_goes_on_as_another() -> None:
    answers = [Canned(202, STORED), Canned(409, UNKNOWN), Canned(202, STORED)]
    with canned_http(answers) as (url, seen), Client(url) as client:
        for n in (1, 2, 3):
            client.send(TABLE, spike(n))
            client.flush()

    assert [request["neuralake-sequence"] for request in seen] == ["1", "2", "1", "2"]
    assert len({request["neuralake-producer"] for request in seen}) == 2


@pytest.mark.parametrize(
    ("in_doubt", "sequences", "bodies"),
    [("resend", ["1", "2", "2", "1", "2"], [2, 3]), ("drop", ["1", "2", "2", "1"], [3])],
)
def test_in_doubt_the_caller_decides(
    in_doubt: Any, sequences: list[str], bodies: list[int]
) -> None:
    answers = [Canned(202, STORED), Canned(0), Canned(409, UNKNOWN), Canned(202, STORED)]
    with (
        canned_http(answers) as (url, seen),
        Client(url, in_doubt=in_doubt, batch_rows_max=1) as client,
    ):
        client.send(TABLE, spike(1))
        client.flush()
        client.send(TABLE, spike(2))
        client.send(TABLE, spike(3))

    assert [request["neuralake-sequence"] for request in seen] == sequences
    assert [int(r["body"].split(b":")[-1].strip(b"}\n")) for r in seen[3:]] == bodies


def test_in_doubt_nothing_is_sent_until_a_person_has_looked(tmp_path: Path) -> None:
    answers = [Canned(202, STORED), Canned(0), Canned(409, UNKNOWN), Canned(202, STORED)]
    with canned_http(answers) as (url, seen):
        client = Client(url, spool=tmp_path)
        client.send(TABLE, spike(1))
        client.flush()
        client.send(TABLE, spike(2))
        with pytest.raises(NeedsAttention, match="in_doubt"):
            client.flush()
        client.send(TABLE, spike(3))
        with pytest.raises(NeedsAttention):
            client.close()
        assert len(seen) == 3

        with Client(url, spool=tmp_path, in_doubt="resend"):
            pass

    resent = b"".join(request["body"] for request in seen[3:])
    assert [row["channel"] for row in map(json.loads, resent.splitlines())] == [2, 3]


def test_a_server_that_knows_nobody_is_not_asked_for_ever() -> None:
    with canned_http([Canned(409, UNKNOWN)]) as (url, seen):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(NeedsAttention):
            client.flush()
        with pytest.raises(NeedsAttention):
            client.close()

    assert len(seen) == 1


def test_a_server_that_does_not_read_compressed_bodies_keeps_the_rows_waiting() -> None:
    with canned_http([Canned(415), Canned(202, STORED)]) as (url, _):
        client = Client(url, compression="gzip")
        client.send(TABLE, spike(1))
        with pytest.raises(UnsupportedMedia):
            client.flush()
        client.close()


def test_a_program_that_forgets_to_close_has_its_rows_sent(url: str, queue: Queue) -> None:
    program = (
        "import sys; from neuralake.ingest import Client; client = Client(sys.argv[1])\n"
        "import neuralake.client.client as it; it._AT_EXIT_S = 50.0  # A slow machine.\n"
        "for n in range(50): client.send('lab.spikes', {'session': 's', 'channel': n})"
    )
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=60)

    assert channels(queue) == list(range(50))


def test_a_client_loads_no_server_library_and_no_arrow() -> None:
    program = (
        "import sys; from neuralake.ingest import Client; Client('http://127.0.0.1:9').close();"
        "print({'starlette', 'uvicorn', 'polars', 'pyarrow', 'datafusion'} & {*sys.modules})"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert answer.stdout == "set()\n", answer.stderr


@pytest.mark.parametrize("kind", ["out-of-order", "key-reused"])
def test_a_copied_spool_is_noticed(kind: str) -> None:
    said = b'{"type":"urn:neuralake:problem:%s","detail":"no"}' % kind.encode()
    with canned_http([Canned(409 if kind == "out-of-order" else 422, said)]) as (url, _):
        client = Client(url)
        client.send(TABLE, spike(1))
        with pytest.raises(NeedsAttention, match="copy of this spool"):
            client.flush()
        with pytest.raises(NeuralakeError):
            client.close()


def test_a_callback_that_fails_stops_the_table_and_is_told() -> None:
    def fail(_: Rejected) -> None:
        raise RuntimeError("in the callback")

    with canned_http([Canned(422, REFUSED)]) as (url, _):
        client = Client(url, on_rejected=fail)
        client.send(TABLE, spike(1))
        with pytest.raises(NeedsAttention, match="in the callback"):
            client.flush()
        with pytest.raises(NeedsAttention):
            client.close()


def test_a_table_in_trouble_does_not_hold_up_another(url: str, queue: Queue) -> None:
    client = Client(url)
    client.send("lab.none", spike(1))
    with pytest.raises(UnknownName):
        client.flush()
    client.send(TABLE, spike(1))
    done = threading.Event()
    while not done.wait(0.001) and client.rows_waiting > 1:
        pass
    with pytest.raises(UnknownName):
        client.close()

    assert channels(queue) == [1]
