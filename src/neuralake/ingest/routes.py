"""HTTP routes of ingest: send rows to a table, and ask how far it is.

    POST /v1/{database}/{table}[?wait=committed]   rows as JSON, CSV, an Arrow stream or Parquet
    GET  /v1/{database}/{table}                    schema, newest position, what is committed
    GET  /v1                                       the queue's identity and its topics

A 2xx answer to POST means that the rows are valid and durable, and will be in the table exactly
once; of a table with dead letters, also that each row that does not fit will be one, once. After
any 4xx, 429 or 503 nothing is stored. With an `Idempotency-Key` the same request may
be sent again safely: the answer is the first one's position, with `repeated`.
The key with another body (of Arrow streams: with another number of rows) is refused.

Instead of a key, a sender may number its requests for a table: `Neuralake-Producer: <identity>` and
`Neuralake-Sequence: 1`, `2`, …. Only the next number is stored, so that rows are there in the order
in which they were sent; the newest numbers may be repeated; 409 says what else it may be. With
`Neuralake-Queue: <identity>` only that queue stores them: any other would take number 1 once more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from neuralake.catalog import Catalog
from neuralake.clock import Clock
from neuralake.errors import NeuralakeError, Trimmed, UnknownProducer, UsageError, outcome
from neuralake.ingest.audit import AuditLog
from neuralake.ingest.body import BodyReader
from neuralake.ingest.committed import Watches
from neuralake.ingest.rate import Rates
from neuralake.ingest.target import Target, Targets
from neuralake.queue import Appended, ProducerSequence
from neuralake.queue.awaiting import awaited
from neuralake.queue.topic import topic_of
from neuralake.records.decode import Encoded, reader_of
from neuralake.records.dropped import Dropped
from neuralake.records.letters import DeadLetter
from neuralake.serve.caller import caller_of
from neuralake.serve.problem import problem_response
from neuralake.telemetry import Telemetry

__all__ = ["IngestRoutes"]

# Decoding this much takes about 2 ms: less than the wait for a thread under load costs the others.
_INLINE_BYTES_MAX = 32 * 1024
# One large body at a time uses the machine well enough; the second keeps a slow one from blocking.
_DECODERS = 2
_KEY_LENGTH_MAX = 255
_PRODUCER, _SEQUENCE, _QUEUE = "Neuralake-Producer", "Neuralake-Sequence", "Neuralake-Queue"
# Enough to see what is wrong; the table of dead letters has all.
_REASONS_MAX = 5
_POST_PATH = re.compile(r"/v1/(?P<database>[^/]+)/(?P<table>[^/]+)")


@dataclass(frozen=True, slots=True)
class _Stored:
    """What has become of a request."""

    appended: Appended
    rows: int
    letters: Sequence[DeadLetter] = ()
    dropped: Dropped | None = None


class IngestRoutes:
    """The routes over one catalog. `close` when the server stops."""

    def __init__(
        self,
        catalog: Catalog,
        watches: Watches,
        *,
        clock: Clock,
        telemetry: Telemetry,
        sharers: int = 1,
    ) -> None:
        self._queue = catalog.queue()  # One that cannot be opened is told at the start.
        self._targets = Targets(catalog, watches)
        self._wait_s_max = catalog.settings.ingest.wait_s_max
        self._body = BodyReader(catalog.settings.ingest.body_bytes_max)
        self._pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        self._clock = clock
        self._telemetry = telemetry
        server = catalog.settings.server
        self._rates = Rates(
            requests_per_s=server.requests_per_s_max / sharers,
            rows_per_s=server.rows_per_s_max / sharers,
        )
        self._audit = AuditLog(catalog.settings.audit_path, bytes_max=server.audit_bytes_max)

    def routes(self) -> list[Route]:
        path = "/v1/{database}/{table}"
        # The first is for those who list routes; `direct` comes before it.
        return [
            Route(path, self.post, methods=["POST"]),
            Route(path, self.get, methods=["GET"]),
            Route("/v1", self.topics, methods=["GET"]),
        ]

    def direct(self, app: ASGIApp) -> ASGIApp:
        """`app`, before which posts of rows are answered without looking for their route.

        Routing costs as much as reading and storing one event, and this is the one route that is
        asked thousands of times a second.
        """

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                found = _POST_PATH.fullmatch(scope["path"])
                if found is not None:
                    scope["path_params"] = found.groupdict()
                    response = await self.post(Request(scope, receive))
                    await response(scope, receive, send)
                    return
            await app(scope, receive, send)

        return answer

    def close(self) -> None:
        self._audit.flush()
        self._pool.shutdown()

    async def post(self, request: Request) -> Response:
        """Store the rows of the body."""
        began_s = self._clock.monotonic_s()
        try:
            response = await self._store(request)
        except ClientDisconnect:
            # Nobody reads this answer; nothing was stored.
            return Response(status_code=400)
        except NeuralakeError as error:
            status = outcome(error).status
            self._telemetry.count("ingest_refused", status=str(status))
            self._note(request, status)
            return problem_response(error)
        self._telemetry.observe("ingest_request_seconds", self._clock.monotonic_s() - began_s)
        return response

    async def get(self, request: Request) -> Response:
        """Schema and progress of a table."""
        try:
            caller, name = caller_of(request.scope), _table_of(request)
            if not caller.may("write", name):  # Who sends rows may see how far they are.
                caller.check("read", name)
            target = await self._target(request)
            return _json(await self._progress(target))
        except NeuralakeError as error:
            return problem_response(error)

    async def topics(self, request: Request) -> Response:
        """The queue's identity, and the topics with rows that the caller may read."""
        caller, queue = caller_of(request.scope), self._queue
        try:
            known = await asyncio.to_thread(queue.topics)
            identity = await asyncio.to_thread(lambda: queue.id)
        except NeuralakeError as error:
            return problem_response(error)
        may_read = [name for name in known if caller.may("read", name)]
        return _json({"queue": identity, "topics": may_read})

    def _note(self, request: Request, status: int, **facts: Any) -> None:
        """Into the audit log, where there are tokens: without them it is always the same one."""
        if caller := caller_of(request.scope).name:
            self._audit.note(
                self._clock.now_s(),
                token=caller,
                remote=_remote(request),
                table=_table_of(request)[:_KEY_LENGTH_MAX],
                status=status,
                producer=_said(request, _PRODUCER),
                sequence=_said(request, _SEQUENCE),
                **facts,
            )

    async def _store(self, request: Request) -> Response:
        caller = caller_of(request.scope)
        caller.check("write", _table_of(request))
        sender = caller.name or _remote(request)
        self._rates.take(sender, self._clock.monotonic_s())
        target = await self._target(request)
        media_type = reader_of(request.headers.get("content-type", ""))
        key, producer = _key(request), _producer(request)
        if key is not None and producer is not None:
            raise UsageError(
                f"A request has an Idempotency-Key or a {_PRODUCER} with its {_SEQUENCE}, not both."
            )
        _check_queue(request, target)
        wait = _wait(request)
        async with self._body.body(request) as body:
            stored = await self._append(
                target, body, media_type, _source(request), key=key, producer=producer
            )
        rows, letters = stored.rows, len(stored.letters)
        self._rates.spend(sender, rows + letters, self._clock.monotonic_s())
        self._note(
            request,
            202,
            rows=rows,
            position=stored.appended.position,
            key=key,
            **({"dead_letters": letters} if letters else {}),
        )
        if not stored.appended.repeated:
            self._telemetry.count("ingest_rows", rows, table=target.topic)
            self._telemetry.count("ingest_bytes", len(body), table=target.topic)
            if letters:
                self._telemetry.count("ingest_dead_letters", letters, table=target.topic)
        if wait:
            return await self._when_committed(target, stored)
        return _json(_answer(target, stored), status=202, headers=_queue_of(target))

    async def _append(
        self,
        target: Target,
        body: bytes,
        media_type: str,
        source: str,
        *,
        key: str | None,
        producer: ProducerSequence | None,
    ) -> _Stored:
        # Under a key an envelope holds this request and no other, so that it can be told again.
        if key is None and producer is None:
            dropped = Dropped()
            try:
                if (rows := target.decoder.few(body, media_type, dropped=dropped)) is not None:
                    return _Stored(await target.combiner.store(rows), len(rows), dropped=dropped)
            except UsageError:
                if not target.decoder.dead_letters:
                    raise
                # Nothing is stored yet; below it is read once more, for its dead letters.
        encoded = await self._decode(
            target,
            body,
            media_type,
            source=source,
            is_signed=key is not None or producer is not None,
            is_verbatim=producer is not None,
        )
        submitted = target.queue.submit(
            target.topic,
            encoded.payload,
            encoded.rows,
            key=key,
            fingerprint=encoded.fingerprint,
            producer=producer,
        )
        return _Stored(await awaited(submitted), encoded.rows, encoded.letters, encoded.dropped)

    async def _target(self, request: Request) -> Target:
        database, table = request.path_params["database"], request.path_params["table"]
        known = self._targets.known(database, table)
        if known is not None:
            return known
        # Opening an old table takes a while, in which the requests for others go on.
        return await asyncio.to_thread(self._targets.find, database, table)

    async def _decode(self, target: Target, body: bytes, media_type: str, **how: Any) -> Encoded:
        read = partial(target.decoder.envelope, body, media_type, **how)
        if len(body) <= _INLINE_BYTES_MAX and target.decoder.is_light(body, media_type):
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._pool, read)

    async def _when_committed(self, target: Target, stored: _Stored) -> Response:
        answer, appended = _answer(target, stored), stored.appended
        version = await target.watch.version_with(
            appended.partition, appended.position, timeout_s=self._wait_s_max
        )
        if version is None:
            note = f"stored, but not committed within {self._wait_s_max} s; it will be"
            return _json(answer | {"note": note}, status=202, headers=_queue_of(target))
        return _json(answer | {"version": version}, headers=_queue_of(target))

    async def _progress(self, target: Target) -> dict[str, Any]:
        names = await asyncio.to_thread(target.queue.partitions, target.topic)
        bounds = [await asyncio.to_thread(target.queue.bounds, name) for name in names]
        committed = await target.watch.look(names)
        marks = [committed.positions[name] for name in names]
        lags_s = [
            await asyncio.to_thread(self._lag_s, target, *at)
            for at in zip(names, marks, strict=True)
        ]
        return {
            "database": target.database,
            "table": target.table,
            "queue": target.queue.id,
            "columns": [
                {"name": field.name, "type": str(field.type), "nullable": field.nullable}
                for field in target.schema
            ],
            "partition_by": list(target.partition_by),
            # Of all partitions together: they grow with every row, and are equal when all is in.
            "position": sum(found.last for found in bounds),
            "committed_position": sum(marks),
            "version": committed.version,
            "lag_s": max(lags_s, default=0.0),
            "partitions": [
                {
                    "partition": name,
                    "position": found.last,
                    "committed_position": mark,
                    "trimmed_position": found.trimmed,
                    "rows": found.rows,
                    "bytes": found.bytes,
                }
                for name, found, mark in zip(names, bounds, marks, strict=True)
            ],
        }

    def _lag_s(self, target: Target, partition: str, committed: int) -> float:
        """Age of the oldest stored row that is not in the table; 0 if all are."""
        try:
            waiting = target.queue.read(partition, after=committed, envelopes_max=1, bytes_max=1)
        except Trimmed:
            return 0.0  # Trimmed is committed, so a commit came between the two looks.
        return max(0.0, self._clock.now_s() - waiting[0].appended_s) if waiting else 0.0


def _table_of(request: Request) -> str:
    return topic_of(request.path_params["database"], request.path_params["table"])


def _remote(request: Request) -> str:
    return request.client.host if request.client else ""


def _source(request: Request) -> str:
    """Who sends, for those who look after dead letters: a token's name, and from where."""
    name, remote = caller_of(request.scope).name, _remote(request)
    return f"{name} ({remote})" if name else remote


def _answer(target: Target, stored: _Stored) -> dict[str, Any]:
    appended = stored.appended
    partition = {} if appended.partition == target.topic else {"partition": appended.partition}
    answer = {
        **partition,
        "position": appended.position,
        "rows": stored.rows,
        "repeated": appended.repeated,
    }
    if stored.letters:
        answer["dead_letters"] = len(stored.letters)
        answer["reasons"] = [
            {"row": letter.row, "column": letter.column, "reason": letter.reason}
            for letter in stored.letters[:_REASONS_MAX]
        ]
    if stored.dropped is not None and stored.dropped.rows:
        answer["dropped_columns"] = stored.dropped.rows
    return answer


def _queue_of(target: Target) -> dict[str, str]:
    """Positions and sequences count in one queue: who sends should see when it is another one."""
    return {_QUEUE: target.queue.id}


def _json(
    value: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    # A line of its own, as terminals show it.
    body = msgspec.json.encode(value) + b"\n"
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= _KEY_LENGTH_MAX and key.isprintable()):
        raise UsageError(
            f"The Idempotency-Key is empty, longer than {_KEY_LENGTH_MAX} characters or not "
            f"printable; a UUID is a good one.",
            reason="bad Idempotency-Key",
        )
    return key


def _producer(request: Request) -> ProducerSequence | None:
    producer, sequence = request.headers.get(_PRODUCER), request.headers.get(_SEQUENCE)
    if producer is None and sequence is None:
        return None
    if producer is None or not (0 < len(producer) <= _KEY_LENGTH_MAX and producer.isprintable()):
        raise UsageError(
            f"The {_PRODUCER} is missing, empty, longer than {_KEY_LENGTH_MAX} characters or not "
            f"printable; a UUID is a good one.",
            reason=f"bad {_PRODUCER}",
        )
    if sequence is None or not (len(sequence) <= 16 and sequence.isascii() and sequence.isdigit()):
        raise UsageError(
            f"The {_SEQUENCE} is missing or no number; a producer counts its requests for a table "
            f"from 1.",
            reason=f"bad {_SEQUENCE}",
        )
    return ProducerSequence(producer, int(sequence))


def _check_queue(request: Request, target: Target) -> None:
    """Raises UnknownProducer: the sender counts in another queue than there is now."""
    asked = request.headers.get(_QUEUE)
    if asked is None or asked == target.queue.id:
        return
    raise UnknownProducer(
        f"The request is for queue {asked[:_KEY_LENGTH_MAX]!r}, but {target.topic!r} is in "
        f"{target.queue.id!r}: the queue was made anew, or this is another server. Nothing of this "
        f"is stored. Whether the sender's last rows are, only the table can tell; go on as a new "
        f"producer, from 1.",
        topic=target.topic,
        producer=_said(request, _PRODUCER),
        sequence=_said(request, _SEQUENCE),
        expected=1,
        queue=target.queue.id,
    )


def _said(request: Request, header: str) -> str | None:
    """A header as it came, at a length for the audit log."""
    value = request.headers.get(header)
    return None if value is None else value[:_KEY_LENGTH_MAX]


def _wait(request: Request) -> bool:
    """Whether the caller wants to wait for the commit."""
    if not request.scope["query_string"]:
        return False
    for name, value in request.query_params.multi_items():
        if (name, value) != ("wait", "committed"):
            raise UsageError(
                f"Unknown query parameter {name}={value}. Known: wait=committed.",
                name=name,
                known=["wait=committed"],
            )
    return bool(request.query_params)
