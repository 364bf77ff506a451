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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from neuralake.catalog import Catalog
from neuralake.clock import Clock
from neuralake.errors import NeuralakeError, UnknownProducer, UsageError, outcome
from neuralake.ingest.accounts import Accounts, Sender
from neuralake.ingest.answers import (
    PRODUCER,
    QUEUE,
    SEQUENCE,
    Stored,
    answer,
    json_response,
    queue_of,
)
from neuralake.ingest.body import BodyReader
from neuralake.ingest.progress import progress
from neuralake.ingest.target import Target, Targets
from neuralake.queue import ProducerSequence
from neuralake.queue.awaiting import awaited
from neuralake.queue.topic import topic_of
from neuralake.records.encoded import Encoded
from neuralake.records.media_types import reader_of
from neuralake.serve.caller import caller_of
from neuralake.serve.problem import problem_response

__all__ = ["IngestRoutes"]

# Decoding this much takes about 2 ms: less than the wait for a thread under load costs the others.
_INLINE_BYTES_MAX = 32 * 1024
# One large body at a time uses the machine well enough; the second keeps a slow one from blocking.
_DECODERS = 2
_KEY_LENGTH_MAX = 255


class IngestRoutes:
    """The routes over one catalog. `close` when the server stops."""

    def __init__(
        self, catalog: Catalog, targets: Targets, accounts: Accounts, *, clock: Clock
    ) -> None:
        self._queue = catalog.queue()  # One that cannot be opened is told at the start.
        self._targets, self._accounts = targets, accounts
        self._wait_s_max = catalog.settings.ingest.wait_s_max
        self._body = BodyReader(catalog.settings.ingest.body_bytes_max)
        self._pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        self._clock = clock

    def routes(self) -> list[Route]:
        path = "/v1/{database}/{table}"
        return [
            Route(path, self.post, methods=["POST"]),
            Route(path, self.get, methods=["GET"]),
            Route("/v1", self.topics, methods=["GET"]),
        ]

    def close(self) -> None:
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
            self._accounts.refused(Sender.of(request.scope), outcome(error).status, _said(request))
            return problem_response(error)
        self._accounts.answered(began_s)
        return response

    async def get(self, request: Request) -> Response:
        """Schema and progress of a table, also of one that Kafka feeds."""
        try:
            caller, name = caller_of(request.scope), _table_of(request)
            if not caller.may("write", name):  # Who sends rows may see how far they are.
                caller.check("read", name)
            find = partial(self._targets.flow, *_names_of(request))
            flow = await asyncio.to_thread(find)
            return json_response(await asyncio.to_thread(progress, flow, clock=self._clock))
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
        return json_response({"queue": identity, "topics": may_read})

    async def _store(self, request: Request) -> Response:
        sender = Sender.of(request.scope)
        sender.check()
        self._accounts.admit(sender)
        target = await self._target(request)
        media_type = reader_of(request.headers.get("content-type", ""))
        key, producer = _key(request), _producer(request)
        if key is not None and producer is not None:
            raise UsageError(
                f"A request has an Idempotency-Key or a {PRODUCER} with its {SEQUENCE}, not both."
            )
        _check_queue(request, target)
        wait = _wait(request)
        async with self._body.body(request) as body:
            stored = await self._append(
                target, body, media_type, sender.source, key=key, producer=producer
            )
        self._accounts.stored(
            sender,
            stored.appended,
            rows=stored.rows,
            body_bytes=len(body),
            letters=len(stored.letters),
            dropped=stored.dropped,
            said=_said(request),
        )
        if wait:
            return await self._when_committed(target, stored)
        return json_response(
            answer(target.topic, stored), status=202, headers=queue_of(target.queue.id)
        )

    async def _append(
        self,
        target: Target,
        body: bytes,
        media_type: str,
        source: str,
        *,
        key: str | None,
        producer: ProducerSequence | None,
    ) -> Stored:
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
        return Stored(await awaited(submitted), encoded.rows, encoded.letters, encoded.dropped)

    async def _target(self, request: Request) -> Target:
        database, table = _names_of(request)
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

    async def _when_committed(self, target: Target, stored: Stored) -> Response:
        told, appended = answer(target.topic, stored), stored.appended
        version = await target.watch.version_with(
            appended.partition, appended.position, timeout_s=self._wait_s_max
        )
        if version is None:
            note = f"stored, but not committed within {self._wait_s_max} s; it will be"
            return json_response(
                told | {"note": note}, status=202, headers=queue_of(target.queue.id)
            )
        return json_response(told | {"version": version}, headers=queue_of(target.queue.id))


def _names_of(request: Request) -> tuple[str, str]:
    return request.path_params["database"], request.path_params["table"]


def _table_of(request: Request) -> str:
    return topic_of(*_names_of(request))


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
    producer, sequence = request.headers.get(PRODUCER), request.headers.get(SEQUENCE)
    if producer is None and sequence is None:
        return None
    if producer is None or not (0 < len(producer) <= _KEY_LENGTH_MAX and producer.isprintable()):
        raise UsageError(
            f"The {PRODUCER} is missing, empty, longer than {_KEY_LENGTH_MAX} characters or not "
            f"printable; a UUID is a good one.",
            reason=f"bad {PRODUCER}",
        )
    if sequence is None or not (len(sequence) <= 16 and sequence.isascii() and sequence.isdigit()):
        raise UsageError(
            f"The {SEQUENCE} is missing or no number; a producer counts its requests for a table "
            f"from 1.",
            reason=f"bad {SEQUENCE}",
        )
    return ProducerSequence(producer, int(sequence))


def _check_queue(request: Request, target: Target) -> None:
    """Raises UnknownProducer: the sender counts in another queue than there is now."""
    asked = request.headers.get(QUEUE)
    if asked is None or asked == target.queue.id:
        return
    raise UnknownProducer(
        f"The request is for queue {asked[:_KEY_LENGTH_MAX]!r}, but {target.topic!r} is in "
        f"{target.queue.id!r}: the queue was made anew, or this is another server. Nothing of this "
        f"is stored. Whether the sender's last rows are, only the table can tell; go on as a new "
        f"producer, from 1.",
        topic=target.topic,
        **{name: said for name, said in _said(request).items() if name != "key"},
        expected=1,
        queue=target.queue.id,
    )


def _said(request: Request) -> dict[str, str | None]:
    """How the request tells itself from others, at a length that can be written down."""
    headers = {"key": "Idempotency-Key", "producer": PRODUCER, "sequence": SEQUENCE}
    found = {fact: request.headers.get(name) for fact, name in headers.items()}
    return {fact: value and value[:_KEY_LENGTH_MAX] for fact, value in found.items()}


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
