"""The platform's HTTP application: ingest, SQL, health and the catalog site on one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeuralakeError
from neuralake.ingest.disk_health import DiskHealth
from neuralake.ingest.guard import Guard
from neuralake.ingest.routes import IngestRoutes
from neuralake.ingest.site_files import SiteFiles
from neuralake.ingest.tokens import TokenFile
from neuralake.serve.gateway import Gateway
from neuralake.serve.http import SqlEndpoint
from neuralake.serve.problem import problem_response
from neuralake.telemetry import Telemetry

__all__ = ["create_app"]


def create_app(
    catalog: Catalog,
    *,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
    is_public: bool = False,
    sharers: int = 1,
) -> Starlette:
    """The application over `catalog`. It opens the catalog's queue, and does not close it.

    To whom it answers `guard` says; `is_public`: other machines can reach it. `sharers`: processes
    on this port, among which a sender's requests and rows a second are divided. Every error has
    one shape: `problem+json`.
    """
    tokens = TokenFile(catalog.settings.tokens_path, clock=clock)
    telemetry = telemetry or Telemetry()
    gateway = Gateway(catalog)
    clock = clock or SystemClock()
    ingest = IngestRoutes(catalog, clock=clock, telemetry=telemetry, sharers=sharers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with gateway:
            yield
        ingest.close()

    sql = Route("/api/sql", SqlEndpoint(gateway), methods=["POST"])
    app = Starlette(
        routes=[*ingest.routes(), *_health(DiskHealth(catalog, clock=clock), telemetry), sql],
        middleware=[
            Middleware(Guard, tokens=tokens, is_public=is_public),
            Middleware(ingest.direct),
        ],
        exception_handlers={
            HTTPException: _answer_error,
            NeuralakeError: _answer_error,
            Exception: _answer_error,
        },
        lifespan=lifespan,
    )
    # Not a route: a mount at "/" would also take what a route refuses for its method.
    app.router.default = SiteFiles(catalog.settings.path(catalog.settings.site.folder))
    return app


async def _answer_error(_: Request, error: Exception) -> Response:
    return problem_response(error)


def _json(value: object, *, status: int = 200) -> Response:
    # A line of its own, as terminals show it.
    return Response(
        msgspec.json.encode(value) + b"\n",
        status_code=status,
        headers={"Retry-After": "1"} if status == 503 else None,
        media_type="application/json",
    )


def _health(disks: DiskHealth, telemetry: Telemetry) -> list[BaseRoute]:
    async def live(_: Request) -> Response:
        return _json({"status": "live"})

    async def ready(_: Request) -> Response:
        # A queue that takes rows, and room for them, is all that a POST needs.
        reasons = await asyncio.to_thread(disks.reasons)
        if reasons:
            return _json({"status": "unavailable", "reasons": reasons}, status=503)
        return _json({"status": "ready"})

    async def metrics(_: Request) -> Response:
        return _json(telemetry.snapshot())

    return [
        Route("/health", ready),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/health/telemetry", metrics),
    ]
