"""Who may talk to a server that has no tokens yet: programs on this machine, not web pages.

A browser lets any page send requests to 127.0.0.1. Two checks stop that: the `Host` must be a
loopback name (a page that rebinds its DNS name to 127.0.0.1 still sends its own name), and a
request that says it comes from another origin is refused. For browsers that do not say so, every
answer forbids other origins to load it.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuralake.errors import UsageError
from neuralake.serve.problem import problem_response
from neuralake.settings import is_loopback

__all__ = ["LoopbackOnly", "check_bind_host"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
_ASKED = frozenset({b"host", b"origin", b"sec-fetch-mode", b"sec-fetch-site"})
_POLICY = (b"cross-origin-resource-policy", b"same-origin")


class LoopbackOnly:
    """ASGI middleware: answers 403 unless `Host` and `Origin` name this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = tuple((n, value) for n, value in scope["headers"] if n in _ASKED)
        refusal = _refusal(scope["method"], asked)
        if refusal:
            error = HTTPException(403, refusal)
            await problem_response(error)(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _POLICY]
            await send(message)

        await self._app(scope, receive, with_policy)


def check_bind_host(host: str) -> None:
    """Refuse to listen where other machines can reach us.

    Raises:
        UsageError: `host` is not a loopback address.
    """
    if not is_loopback(host):
        raise UsageError(
            f"{host!r} is an address that other machines can reach, and this version has no tokens "
            f"to tell them apart. Use 127.0.0.1.",
            host=host,
        )


# Few senders, and each says the same again and again; strangers push one another out.
@lru_cache(maxsize=256)
def _refusal(method: str, asked: tuple[tuple[bytes, bytes], ...]) -> str:
    headers = {name: value.decode("latin-1") for name, value in asked}
    host = headers.get(b"host", "")
    if not _names_loopback(f"//{host}"):
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
