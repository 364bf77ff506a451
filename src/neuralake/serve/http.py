"""`POST /api/sql`: one reading SQL statement in, its rows out as JSON, CSV or Arrow.

The body is `{"sql": "…", "limit": n, "live": true}` as `application/json`, or the SQL itself as
`text/plain`. Live, stream tables have every acknowledged row; else only those that are committed.
The `Accept` header picks the answer: JSON (default), `text/csv`, or
`application/vnd.apache.arrow.stream`. Answers stream; when the client goes away the query ends.
An error before the first byte is a problem document; after it, the connection breaks off, so that
a part is never taken for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from neuralake.catalog import Catalog
from neuralake.errors import NeuralakeError, QueryError, TooLarge, Unavailable, UnsupportedMedia
from neuralake.serve.caller import caller_of
from neuralake.serve.encode import MEDIA_TYPES
from neuralake.serve.gateway import Gateway, Query
from neuralake.serve.messages import Format, Head
from neuralake.serve.problem import problem_response

__all__ = ["SqlEndpoint", "routes"]

T = TypeVar("T")
_ACCEPTED: dict[str, Format] = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/*": "json",
    "text/*": "csv",
    "*/*": "json",
}
_TEXTS = ("text/plain", "application/sql", "")
# JSON spells a character in up to six bytes.
_JSON_FACTOR = 6
_VERSIONS_CHARACTERS_MAX = 4096


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    sql: str
    limit: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    live: bool = False


def routes(catalog: Catalog) -> list[BaseRoute]:
    """The routes of the SQL gateway; its processes start with the first query."""
    return [Route("/api/sql", SqlEndpoint(Gateway(catalog)), methods=["POST"])]


class SqlEndpoint:
    """The ASGI application behind `/api/sql`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # A thread per query that runs or waits: it blocks on the pipe of the query's process.
        self._threads = ThreadPoolExecutor(
            gateway.processes + gateway.waiting_max, thread_name_prefix="sql"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            form = _form(request.headers.get("accept", ""))
            body = await _body(request, self._gateway.limits.query_bytes_max)
            readable = caller_of(scope).read
            query = self._gateway.query(
                body.sql, form, limit=body.limit, readable=readable, live=body.live
            )
        except ClientDisconnect:
            return
        except (NeuralakeError, HTTPException) as error:
            await problem_response(error)(scope, receive, send)
            return
        leaving = asyncio.create_task(_cancel_when_gone(receive, query))
        try:
            await self._answer(query, form, scope, receive, send)
        finally:
            leaving.cancel()
            # Whatever ended it (also the server's own stop): nothing of the query stays behind.
            query.cancel(_gone())
            await asyncio.shield(self._in_thread(query.close))

    async def _answer(
        self, query: Query, form: Format, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            head = await self._in_thread(query.open)
        except NeuralakeError as error:
            await problem_response(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _headers(form, head)})
        parts = query.parts()
        while (part := await self._in_thread(lambda: next(parts, None))) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if query.tail is not None and not query.tail.truncated:
            # Before the client can ask again: its next query finds this process free. After a cut
            # the process may need a while to come to rest, for which nobody should wait.
            await self._in_thread(query.close)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call)


def _gone() -> NeuralakeError:
    return Unavailable("The client went away.")


async def _cancel_when_gone(receive: Receive, query: Query) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    query.cancel(_gone())


def _headers(form: Format, head: Head) -> list[tuple[bytes, bytes]]:
    """What is known before the first row; JSON says the same at its end."""
    known = {None: "unknown", True: "true", False: "false"}
    versions = ", ".join(f"{name}={version}" for name, version in sorted(head.versions.items()))
    headers = {
        "content-type": MEDIA_TYPES[form],
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "neuralake-truncated": known[head.truncated],
    }
    if head.rows is not None:
        headers["neuralake-rows"] = str(head.rows)
    if versions and len(versions) <= _VERSIONS_CHARACTERS_MAX:
        headers["neuralake-versions"] = versions
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def _form(accept: str) -> Format:
    """The best of our formats by the `Accept` header; ties go to the one named first."""
    if not accept.strip():
        return "json"
    best: tuple[float, Format] | None = None
    for entry in accept.split(","):
        media, *parameters = (part.strip().lower() for part in entry.split(";"))
        share = next((_share(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        form = _ACCEPTED.get(media)
        if form is not None and share > (best[0] if best else 0.0):
            best = (share, form)
    if best is None:
        raise HTTPException(
            406, f"Answers come as {', '.join(list(_ACCEPTED)[:3])}; found {accept!r}."
        )
    return best[1]


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


async def _body(request: Request, query_bytes_max: int) -> _Body:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json" and media not in _TEXTS:
        raise UnsupportedMedia(
            f"The body is {media!r}. For SQL as it is send the header 'Content-Type: text/plain' "
            f"(curl -H 'Content-Type: text/plain'); for {{\"sql\": …}} application/json.",
            found=media,
            known=["application/json", "text/plain"],
        )
    is_json = media == "application/json"
    raw = await _read(request, query_bytes_max * (_JSON_FACTOR if is_json else 1) + 1024)
    try:
        return msgspec.json.decode(raw, type=_Body) if is_json else _Body(raw.decode("utf-8"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QueryError(f'The body is not {{"sql": "…"}} or a text: {error}.') from error


async def _read(request: Request, bytes_max: int) -> bytes:
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > bytes_max:
            raise TooLarge(f"The body is larger than {bytes_max} bytes.", limit=bytes_max)
    return bytes(raw)
