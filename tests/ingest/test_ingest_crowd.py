"""Many senders of single rows share envelopes, and none of them can tell."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_lake import NOTES, lake, stored
from ingest_server import served

from neuralake.catalog import Catalog
from neuralake.errors import InvalidRows, NeuralakeError, QueueFull
from neuralake.ingest.combine import Combiner, SmallRequest
from neuralake.queue import Amount, Appended, MemoryQueue, Queue, QueueLimits
from neuralake.records.decode import Decoder
from neuralake.records.media_types import JSON, NDJSON
from neuralake.settings import IngestSettings

TOO_LONG = "x" * 300
"""No folder can have such a name."""


def decoder() -> Decoder:
    return Decoder(NOTES, name="lab.notes", partition_by=["author"], limits=IngestSettings())


class Told(SmallRequest):
    """Keeps what it is told: where it is, why not, or what reading it alone says."""

    def __init__(self, body: bytes, reader: Decoder, media_type: str = JSON) -> None:
        super().__init__(body, media_type)
        self.decoder = reader
        self.end_told: asyncio.Future[Appended | BaseException] = asyncio.Future()

    def stored(self, appended: Appended) -> None:
        self.end_told.set_result(appended)

    def failed(self, error: BaseException) -> None:
        self.end_told.set_result(error)

    def declined(self) -> None:
        with pytest.raises(NeuralakeError) as refused:
            self.decoder.envelope(self.body, self.reader)
        self.end_told.set_result(refused.value)


async def store_all(queue: Queue, requests: list[list[dict[str, Any]]]) -> list[Any]:
    """What each of `requests` is told, all of them sent at the same moment."""
    reader = decoder()
    combiner = Combiner(queue, "lab.notes", reader)
    sent = [
        # One row as an object, which many are read of at once.
        Told(json.dumps(rows[0] if len(rows) == 1 else rows).encode(), reader)
        for rows in requests
    ]
    for request in sent:
        combiner.add(request)
    return [await request.end_told for request in sent]


@settings(deadline=None, max_examples=examples(20))
@given(
    st.lists(
        st.lists(st.sampled_from(["ann", "bob", "", TOO_LONG]), min_size=1, max_size=3),
        min_size=1,
        max_size=40,
    )
)
def test_a_request_that_does_not_fit_is_refused_alone_and_the_others_are_stored(
    authors: list[list[str]],
) -> None:
    """Whatever shares an envelope with it; each row once, those of a request in order."""
    requests = [
        [{"author": author, "text": f"{i}.{j}"} for j, author in enumerate(each)]
        for i, each in enumerate(authors)
    ]
    queue = MemoryQueue()

    answers = asyncio.run(store_all(queue, requests))

    fitting = [request for request in requests if all(r["author"] != TOO_LONG for r in request)]
    kept = [row["text"] for row in stored(queue, "lab.notes")]
    assert sorted(kept) == sorted(row["text"] for request in fitting for row in request)
    for request, answer in zip(requests, answers, strict=True):
        texts = [row["text"] for row in request]
        if request in fitting:
            assert answer.position >= 1
            assert [text for text in kept if text in texts] == texts
        else:
            assert isinstance(answer, InvalidRows)
            assert (answer.row, answer.column) == (
                [row["author"] for row in request].index(TOO_LONG),
                "author",
            )


def test_requests_of_one_moment_share_an_envelope() -> None:
    queue = MemoryQueue()

    answers = asyncio.run(store_all(queue, [[{"text": str(i)}] for i in range(50)]))

    assert {answer.position for answer in answers} == {1}
    (envelope,) = queue.read("lab.notes", after=0)
    assert envelope.rows == 50


@pytest.mark.parametrize("body", [b"{}\n" * 10, b"{}\n" * 9 + b'{"c1": 1.5e1}'])
def test_what_shares_an_envelope_is_bounded_by_cells_too(body: bytes) -> None:
    """A row of a wide table may be three bytes; all of an envelope is read on the event loop."""
    wide = pa.schema([(f"c{number}", pa.int64()) for number in range(1000)])
    reader = Decoder(wide, name="lab.wide", partition_by=[], limits=IngestSettings())
    queue = MemoryQueue()

    async def told() -> list[Any]:
        combiner = Combiner(queue, "lab.wide", reader)
        sent = [Told(body, reader, NDJSON) for _ in range(100)]
        for request in sent:
            combiner.add(request)
        return [await request.end_told for request in sent]

    answers = asyncio.run(told())

    assert all(isinstance(answer, Appended) for answer in answers)
    envelopes = list(queue.read("lab.wide", after=0, envelopes_max=1000, bytes_max=2**40))
    assert [envelope.rows for envelope in envelopes] == [50] * 20


def test_a_full_queue_is_told_to_each_sender() -> None:
    queue = MemoryQueue(limits=QueueLimits(whole=Amount(2000, 100)))
    queue.append("lab.notes", b"x" * 1900, 1)

    answers = asyncio.run(store_all(queue, [[{"text": str(i)}] for i in range(5)]))

    assert [type(answer) for answer in answers] == [QueueFull] * 5


def test_requests_that_fit_only_one_by_one_are_stored_one_by_one() -> None:
    """Together they exceed all that the table may have in the queue, and none is to blame."""
    queue = MemoryQueue(limits=QueueLimits(topic=Amount(10**6, 3)))

    answers = asyncio.run(store_all(queue, [[{"text": str(i)}] for i in range(6)]))

    assert (
        sorted(type(answer).__name__ for answer in answers) == ["Appended"] * 3 + ["QueueFull"] * 3
    )
    assert queue.bounds("lab.notes").rows == 3


class Faulty(Told):
    """Its connection is not what it should be."""

    def stored(self, appended: Appended) -> None:
        super().stored(appended)
        raise RuntimeError("closed")


def test_a_request_that_cannot_be_told_its_end_takes_nobody_else_with_it() -> None:
    async def send() -> list[Any]:
        reader = decoder()
        combiner = Combiner(MemoryQueue(), "lab.notes", reader)
        sent = [(Faulty if i % 3 else Told)(b'{"text": "a"}', reader) for i in range(40)]
        for request in sent:
            combiner.add(request)
        await combiner.drained()
        return [await request.end_told for request in sent]

    answers = asyncio.run(send())

    assert [answer.position for answer in answers] == [1] * 40


class BrokenQueue(MemoryQueue):
    """Fails in a way that nobody foresaw, once."""

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self.submit = super().submit  # type: ignore[method-assign]  # on purpose
        raise ZeroDivisionError


def test_after_an_unforeseen_error_those_that_came_meanwhile_are_stored() -> None:
    async def send() -> list[Any]:
        reader = decoder()
        combiner = Combiner(BrokenQueue(), "lab.notes", reader)
        first, second = (Told(b'{"text": "a"}', reader) for _ in range(2))
        first.end_told.add_done_callback(lambda _: combiner.add(second))
        combiner.add(first)
        return [await first.end_told, await second.end_told]

    failed, stored_ = asyncio.run(send())

    assert isinstance(failed, ZeroDivisionError)
    assert stored_.position == 1


BODIES = st.one_of(
    st.sampled_from(
        [
            b"{}",
            b"[]",
            b"",
            b"[{}, null]",
            b'{"author": 1}',
            b'{"author": "a"} {"author": "b"}',
            b'{"author": "a"}\n{"text": "b"}\n',
            b'\xef\xbb\xbf{"author": "a"}',
            b'{"author": "a", "author": "b"}',
            b'{"nobody": 1}',
            b"\xff",
            b"[[[[",
        ]
    ),
    st.binary(max_size=30),
    st.lists(st.fixed_dictionaries({"author": st.text(max_size=5)}), max_size=4).map(
        lambda rows: json.dumps(rows).encode()
    ),
)


@settings(deadline=None, max_examples=examples(75))
@given(body=BODIES, media_type=st.sampled_from([JSON, NDJSON]))
def test_small_bodies_are_read_like_large_ones(body: bytes, media_type: str) -> None:
    """To the value and to the words of the refusal."""
    reader = decoder()

    def tried(read: Any) -> Any:
        try:
            return pa.ipc.open_stream(read().payload).read_all().to_pylist()
        except NeuralakeError as error:
            return type(error), error.message, error.facts

    def few() -> Any:
        rows = reader.few(body, media_type)
        assert rows is not None
        return reader.joined(rows)

    assert tried(few) == tried(lambda: reader.envelope(body, media_type))


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_before_a_server_that_is_killed_loses_no_row_that_was_acknowledged(
    tmp_path: Path, seed: int
) -> None:
    """And none is there twice: each sender gives every row once, without a key."""
    acknowledged: list[int] = []

    def send(url: str, sender: int) -> None:
        with httpx.Client(timeout=60) as client:
            for number in range(1000):
                channel = sender * 1000 + number
                row = {"session": "s", "channel": channel}
                try:
                    answer = client.post(f"{url}/v1/lab/spikes", json=row)
                except httpx.TransportError:
                    return
                assert answer.status_code == 202
                acknowledged.append(channel)

    with served(tmp_path) as server:
        threads = [threading.Thread(target=send, args=(server.url, n)) for n in range(16)]
        for thread in threads:
            thread.start()
        enough = random.Random(seed).randrange(20, 400)
        while len(acknowledged) < enough:
            threading.Event().wait(0.002)
        server.kill()
        for thread in threads:
            thread.join()

    catalog: Catalog = lake(tmp_path)
    kept = [row["channel"] for row in stored(catalog.queue(), "lab.spikes")]
    catalog.queue().close()
    assert len(kept) == len(set(kept))
    assert set(acknowledged) <= set(kept)
    for sender in range(16):
        own = [channel for channel in kept if channel // 1000 == sender]
        assert own == sorted(own)
