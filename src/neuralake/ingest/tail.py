"""`GET /v1/{database}/{table}/tail?after=…`: rows as they were acknowledged, in an Arrow stream.

What a frame on another machine reads to be live, and what a follower waits for. An answer has the
rows behind position `after` of one partition, with the declared columns (and those that the table
took since, where it takes new ones), in whole envelopes and bounded in bytes; its headers say where
to go on:

    Neuralake-Position   ask for what is behind it next
    Neuralake-Last       the newest position there is
    Neuralake-Queue      the queue's identity: positions of different ones do not compare
    Neuralake-Rows       rows of this answer
    Neuralake-Appended   when the first of them was stored, Unix seconds

With `wait_s` an answer waits until there is something, or until time is up: then it has no rows.
410 says that the queue keeps no more what was asked for, and what the first usable `after` is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from neuralake.catalog import Catalog
from neuralake.catalog.columns import tail_columns
from neuralake.errors import NeuralakeError, Unavailable, UnknownName, UsageError
from neuralake.ingest.arrivals import Arrivals
from neuralake.live import TailPage, read_page
from neuralake.queue import Queue
from neuralake.queue.protocol import TAIL_BYTES_MAX
from neuralake.queue.topic import topic_of
from neuralake.records.envelopes import EnvelopeReader, reader_of
from neuralake.schema import declare, with_more
from neuralake.serve.caller import caller_of
from neuralake.serve.problem import problem_response
from neuralake.telemetry import Telemetry

__all__ = ["TailEndpoint"]

T = TypeVar("T")
_ARROW = b"application/vnd.apache.arrow.stream"
_BYTES_DEFAULT = 8 * 1024 * 1024
_POSITION_MAX = 2**63 - 1
# Answers that are in memory at once: three times TAIL_BYTES_MAX each, and one large envelope.
_ANSWERS_MAX = 8
_ANSWER_WAIT_S_MAX = 5.0
# Of 512 connections: those who send rows must find one.
_REQUESTS_MAX = 256
_PART_BYTES = 256 * 1024
# A client that reads slowly is left: 270 kB/s for the largest answers.
_SEND_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class _Stream:
    topic: str
    queue: Queue
    schema: pa.Schema
    """The declared one."""
    reader: EnvelopeReader
    into: Callable[[], pa.Schema | None]
    """Gives the columns of the table as it is now, if it takes new ones."""


@dataclass(frozen=True, slots=True)
class _Asked:
    after: int
    partition: str | None
    wait_s: float
    bytes_max: int


class TailEndpoint:
    """The ASGI application behind the route. `end_waits` before the server stops, then `close`."""

    def __init__(self, catalog: Catalog, *, telemetry: Telemetry) -> None:
        self._catalog, self._telemetry = catalog, telemetry
        self._wait_s_max = catalog.settings.ingest.wait_s_max
        self._streams: dict[str, _Stream] = {}
        self._arrivals: dict[str, Arrivals] = {}
        self._threads = ThreadPoolExecutor(_ANSWERS_MAX, thread_name_prefix="tail")
        self._answers = asyncio.Semaphore(_ANSWERS_MAX)
        self._requests = 0

    def end_waits(self) -> None:
        """Answer those who wait; from the event loop."""
        for arrivals in self._arrivals.values():
            arrivals.end()

    def close(self) -> None:
        self._threads.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            async with self._counted():
                stream, asked = await self._asked(request)
                partition = await self._partition(stream, asked)
                if partition is not None and asked.wait_s > 0:
                    await self._wait(stream.topic, partition, asked, receive)
                async with self._turn():
                    answer = await self._in_thread(partial(_answer, stream, partition, asked))
                    self._telemetry.count("tail_rows", answer.rows, table=stream.topic)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_SEND_S_MAX):
                            await answer.send(send)
        except NeuralakeError as error:
            await problem_response(error)(scope, receive, send)

    async def _asked(self, request: Request) -> tuple[_Stream, _Asked]:
        name = topic_of(request.path_params["database"], request.path_params["table"])
        caller_of(request.scope).check("read", name)
        asked = _parse(request, self._wait_s_max)
        if name not in self._streams:
            found = await self._in_thread(
                partial(_find, self._catalog, *request.path_params.values())
            )
            self._streams.setdefault(name, found)
            self._arrivals.setdefault(name, Arrivals(found.queue))
        return self._streams[name], asked

    async def _partition(self, stream: _Stream, asked: _Asked) -> str | None:
        known = await self._in_thread(lambda: stream.queue.partitions(stream.topic))
        if asked.partition is not None:
            if asked.partition not in known:
                raise UnknownName(
                    f"{stream.topic} has no partition {asked.partition!r}. It has: "
                    f"{', '.join(known) or 'none'}.",
                    kind="partition",
                    name=asked.partition,
                    known=known,
                )
            return asked.partition
        if len(known) > 1:
            raise UsageError(
                f"{stream.topic} has {len(known)} partitions, whose positions do not compare: add "
                f"partition=…, one of {', '.join(known)}.",
                known=known,
            )
        return known[0] if known else None

    async def _wait(self, topic: str, partition: str, asked: _Asked, receive: Receive) -> None:
        """Until there is something, time is up, the server stops, or the client went away."""
        arriving = asyncio.create_task(
            self._arrivals[topic].behind(partition, asked.after, timeout_s=asked.wait_s)
        )
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({arriving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not arriving.done():
                arriving.cancel()
        if arriving.done():
            arriving.result()

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        if self._requests >= _REQUESTS_MAX:
            raise Unavailable(
                f"{self._requests} others read or wait for the tail of a table; no more can.",
                retry_after_s=1.0,
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A place for an answer in memory."""
        try:
            await asyncio.wait_for(self._answers.acquire(), _ANSWER_WAIT_S_MAX)
        except TimeoutError:
            raise Unavailable(
                f"{_ANSWERS_MAX} answers are on their way to others; no more fit into memory.",
                retry_after_s=1.0,
            ) from None
        try:
            yield
        finally:
            self._answers.release()

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call)


@dataclass(frozen=True, slots=True)
class _Answer:
    headers: dict[str, str]
    body: bytes
    rows: int

    async def send(self, send: Send) -> None:
        """In parts, so that the server holds back what the client does not read."""
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(self.body), _PART_BYTES):
            part = self.body[start : start + _PART_BYTES]
            is_last = start + _PART_BYTES >= len(self.body)
            await send({"type": "http.response.body", "body": part, "more_body": not is_last})


def _find(catalog: Catalog, database: str, table: str) -> _Stream:
    definition = catalog.definition(database, table)
    if definition.stream is None or definition.schema is None:
        raise UsageError(
            f"Table {database}.{table} has no stream, so nothing of it waits in the queue.",
            table=table,
            database=database,
        )
    name = topic_of(database, table)
    return _Stream(
        topic=name,
        queue=catalog.queue_of(definition),
        schema=declare(definition.schema),
        reader=reader_of(definition, catalog.settings, name=name),
        into=lambda: tail_columns(catalog, definition),
    )


def _answer(stream: _Stream, partition: str | None, asked: _Asked) -> _Answer:
    page = last = None
    into = stream.into() if partition is not None else None
    schema = stream.schema if into is None else with_more(stream.schema, into)
    if partition is not None:
        page = read_page(
            stream.queue,
            partition,
            after=asked.after,
            schema=schema,
            reader=stream.reader,
            into=lambda: into,
            bytes_max=asked.bytes_max,
        )
        last = stream.queue.bounds(partition).last
    page = page or TailPage(asked.after, schema.empty_table(), 0.0)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(page.rows)
    body = sink.getvalue().to_pybytes()
    headers = {
        "content-type": _ARROW.decode(),
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "neuralake-position": str(page.position),
        "neuralake-last": str(max(last or 0, page.position if page.rows.num_rows else 0)),
        "neuralake-queue": stream.queue.id,
        "neuralake-rows": str(page.rows.num_rows),
        "neuralake-appended": repr(page.appended_s),
    }
    return _Answer(headers, body, page.rows.num_rows)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _parse(request: Request, wait_s_max: float) -> _Asked:
    given = dict(request.query_params.multi_items())
    known = ["after", "partition", "wait_s", "bytes_max"]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(
            f"Unknown query parameter {unknown[0][:80]!r}. Known: {', '.join(known)}.",
            name=unknown[0][:80],
            known=known,
        )
    if "after" not in given:
        raise UsageError(
            "Say where to begin: after=0 for all that the queue keeps, after=POSITION for what is "
            "behind it. The newest position is in the answer of GET /v1/DATABASE/TABLE.",
            name="after",
        )
    return _Asked(
        after=_whole("after", given["after"], least=0),
        partition=given.get("partition"),
        wait_s=min(_seconds(given.get("wait_s", "0")), wait_s_max),
        bytes_max=min(
            _whole("bytes_max", given.get("bytes_max", str(_BYTES_DEFAULT)), least=1),
            TAIL_BYTES_MAX,
        ),
    )


def _whole(name: str, text: str, *, least: int) -> int:
    # Not `int` alone, which takes signs, underscores and the digits of every script.
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UsageError(
            f"{name} is {text[:80]!r}; write a whole number, {least} or more.", name=name
        )
    value = int(text)
    if not least <= value <= _POSITION_MAX:
        raise UsageError(f"{name} is {value}; it must be {least} to {_POSITION_MAX}.", name=name)
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"wait_s is {text[:80]!r}; write seconds, 0 or more.", name="wait_s")
    return value
