"""Who may talk to the server: whoever has a token; without tokens, programs on this machine only.

A browser lets any page send requests to 127.0.0.1. Two checks stop that: the `Host` must be a
loopback name (a page that rebinds its DNS name to 127.0.0.1 still sends its own name), and a
request that says it comes from another origin is refused. For browsers that do not say so, every
answer forbids other origins to load it.

Where there are tokens, each request but those for the server's health needs one, on loopback too.
A server that other machines can reach asks for them whether there are any or not.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuralake.errors import NeuralakeError, Unauthorized, UsageError
from neuralake.ingest.tokens import TokenFile
from neuralake.serve.caller import ANYONE, SCOPE_KEY, Caller
from neuralake.serve.problem import problem_response
from neuralake.settings import Settings, is_loopback

__all__ = ["POLICY", "Door", "Guard", "check_bind_host"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
_ASKED = frozenset({b"host", b"origin", b"sec-fetch-mode", b"sec-fetch-site"})
# What tells a load balancer whether to send requests here, and nothing else.
_OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"})
# Basic, too: a browser then asks its user, who gives the token as the password.
_ASKING = {"WWW-Authenticate": 'Bearer realm="neuralake", Basic realm="neuralake"'}
POLICY = (b"cross-origin-resource-policy", b"same-origin")
"""The header by which every answer forbids other origins to load it."""


class Door:
    """Who may come in. `is_public`: other machines can reach the server."""

    def __init__(self, tokens: TokenFile, *, is_public: bool = False) -> None:
        self._tokens, self._is_public = tokens, is_public

    def refusal(self, scope: Scope) -> str:
        """Why a request is refused whoever sends it; empty if it is not."""
        asked = tuple((n, value) for n, value in scope["headers"] if n in _ASKED)
        return _refusal(scope["method"], asked, self._is_public)

    def caller(self, scope: Scope) -> Caller:
        """Who sends the request.

        Raises:
            Unauthorized: it has no token, or none of ours, and needs one.
            NeedsAttention: the tokens cannot be read.
        """
        if not (self._is_public or self._tokens.is_there):
            return ANYONE
        if scope["path"] in _OPEN_PATHS:
            return Caller("")
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return self._tokens.caller(_token(sent))


class Guard:
    """ASGI middleware: 401 without a token where one is needed, 403 for pages of other sites."""

    def __init__(self, app: ASGIApp, *, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if refusal := self._door.refusal(scope):
            error = HTTPException(403, refusal)
            await problem_response(error)(scope, receive, send)
            return
        try:
            scope[SCOPE_KEY] = self._door.caller(scope)
        except NeuralakeError as error:
            asking = _ASKING if isinstance(error, Unauthorized) else None
            await problem_response(error, asking)(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], POLICY]
            await send(message)

        await self._app(scope, receive, with_policy)


def check_bind_host(host: str, settings: Settings) -> None:
    """Refuse to listen where other machines can reach us, unless they can be told apart.

    Raises:
        UsageError: `host` is not a loopback address, and there is no token, or whoever listens in
            would learn it.
    """
    if is_loopback(host):
        return
    server = settings.server
    if not (server.behind_proxy or (server.tls_cert and server.tls_key)):
        raise UsageError(
            f"{host!r} is an address that other machines can reach, and whoever listens in would "
            f"learn their tokens: set server.tls_cert and server.tls_key to the files of a "
            f"certificate, or server.behind_proxy = true if a proxy in front of it speaks TLS.",
            host=host,
        )
    if not TokenFile(settings.tokens_path).tokens():
        raise UsageError(
            f"{host!r} is an address that other machines can reach, and there are no tokens to "
            f"tell them apart. Make one: neuralake token create NAME --write '*' --read '*'.",
            host=host,
        )


def _token(sent: bytes) -> str:
    """The token of an Authorization header: as itself, or as the password that a browser asks for.

    Raises:
        Unauthorized: there is none.
    """
    scheme, _, rest = sent.decode("latin-1").strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        with suppress(ValueError):
            return base64.b64decode(rest, validate=True).decode("latin-1").partition(":")[2]
    raise Unauthorized(
        "This server asks for a token: send it as 'Authorization: Bearer nl_…'. Who runs the "
        "server makes one with `neuralake token create`."
    )


# Few senders, and each says the same again and again; strangers push one another out.
@lru_cache(maxsize=256)
def _refusal(method: str, asked: tuple[tuple[bytes, bytes], ...], is_public: bool) -> str:
    headers = {name: value.decode("latin-1") for name, value in asked}
    host = headers.get(b"host", "")
    if not is_public and not _names_loopback(f"//{host}"):
        return f"The Host {host[:80]!r} is not this machine. Use 127.0.0.1 or localhost."
    if method in _SAFE_METHODS:
        # Answers carry no CORS headers, so a page cannot read them; but it could run a script of
        # ours, which tells what is in the catalog. Following a link to us is fine.
        is_navigation = headers.get(b"sec-fetch-mode", "navigate") == "navigate"
        if headers.get(b"sec-fetch-site", "none") in _SAME_SITE or is_navigation:
            return ""
        return "Requests of web pages from other sites are refused."
    origin = headers.get(b"origin")
    if origin is not None and _netloc(origin) != host.lower():
        return f"Requests of web pages from {origin[:80]!r} are refused."
    if headers.get(b"sec-fetch-site", "none") not in _SAME_SITE:
        return "Requests of web pages from other sites are refused."
    return ""


def _names_loopback(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _netloc(origin: str) -> str:
    # A page without an origin of its own says "null", which has no host and never matches.
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
