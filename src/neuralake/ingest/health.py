"""What tells a supervisor, a load balancer and a person how the server is: `/health…`.

    GET /health/live                 200: the process answers
    GET /health/ready, GET /health   200: it can take rows; 503 with `reasons` if it cannot

Both are open to whoever reaches the server, so they name nothing of what is in the lake.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neuralake.ingest.disk_health import DiskHealth

__all__ = ["health_routes"]


def health_routes(disks: DiskHealth) -> list[Route]:
    """The routes of one server."""

    async def live(_: Request) -> Response:
        return _json({"status": "live"})

    async def ready(_: Request) -> Response:
        # A queue that takes rows, and room for them, is all that a POST needs.
        reasons = await disks.asked()
        if reasons:
            return _json({"status": "unavailable", "reasons": reasons}, status=503)
        return _json({"status": "ready"})

    return [
        Route("/health", ready),
        Route("/health/live", live),
        Route("/health/ready", ready),
    ]


def _json(value: object, *, status: int = 200) -> Response:
    # A line of its own, as terminals show it.
    return Response(
        msgspec.json.encode(value) + b"\n",
        status_code=status,
        headers={"Retry-After": "1"} if status == 503 else None,
        media_type="application/json",
    )
