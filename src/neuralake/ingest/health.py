"""What tells a supervisor, a load balancer and a person how the server is: `/health…`.

    GET /health/live                 200: the process answers
    GET /health/ready, GET /health   200: it can take rows; 503 with `reasons` if it cannot

Both are open to whoever reaches the server, so they name nothing of what is in the lake.
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neuralake.catalog import Catalog
from neuralake.errors import NeuralakeError

__all__ = ["health_routes"]


def health_routes(catalog: Catalog) -> list[Route]:
    """The routes over one catalog."""

    async def live(_: Request) -> Response:
        return _json({"status": "live"})

    async def ready(_: Request) -> Response:
        reasons = await asyncio.to_thread(_reasons, catalog)
        if reasons:
            return _json({"status": "not ready", "reasons": reasons}, status=503)
        return _json({"status": "ready"})

    return [
        Route("/health", ready),
        Route("/health/live", live),
        Route("/health/ready", ready),
    ]


def _reasons(catalog: Catalog) -> list[dict[str, str]]:
    """Why rows cannot be taken; without any, they can."""
    try:
        catalog.queue().topics()
    except NeuralakeError as error:
        return [{"part": "queue", "kind": type(error).__name__}]
    return []


def _json(value: object, *, status: int = 200) -> Response:
    # A line of its own, as terminals show it.
    body = msgspec.json.encode(value) + b"\n"
    return Response(body, status_code=status, media_type="application/json")
