"""The platform's HTTP application: ingest, tails, SQL, health and the catalog site on one port."""

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
from neuralake.ingest.guard import Guard
from neuralake.ingest.routes import IngestRoutes
from neuralake.ingest.site_files import SiteFiles
from neuralake.ingest.tail import TailEndpoint
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
) -> Starlette:
    """The application over `catalog`. It opens the catalog's queue, and does not close it.

    To whom it answers `guard` says; `is_public`: other machines can reach it. Every error has one
    shape: `problem+json`. Before it stops, call `app.state.end_waits`: who waits for rows that
    may come is then answered at once.
    """
    tokens = TokenFile(catalog.settings.tokens_path, clock=clock)
    telemetry = telemetry or Telemetry()
    gateway = Gateway(catalog)
    ingest = IngestRoutes(catalog, clock=clock or SystemClock(), telemetry=telemetry)
    tail = TailEndpoint(catalog, telemetry=telemetry)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with gateway:
            yield
        ingest.close()
        tail.close()

    tails = Route("/v1/{database}/{table}/tail", tail, methods=["GET"])
    sql = Route("/api/sql", SqlEndpoint(gateway), methods=["POST"])
    app = Starlette(
        routes=[*ingest.routes(), tails, *_health(catalog, telemetry), sql],
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
    app.state.end_waits = tail.end_waits
    # Not a route: a mount at "/" would also take what a route refuses for its method.
    app.router.default = SiteFiles(catalog.settings.path(catalog.settings.site.folder))
    return app


async def _answer_error(_: Request, error: Exception) -> Response:
    return problem_response(error)


def _json(value: object) -> Response:
    # A line of its own, as terminals show it.
    return Response(msgspec.json.encode(value) + b"\n", media_type="application/json")


def _health(catalog: Catalog, telemetry: Telemetry) -> list[BaseRoute]:
    async def live(_: Request) -> Response:
        return _json({"status": "live"})

    async def ready(_: Request) -> Response:
        # A queue that answers is all that a POST needs.
        await asyncio.to_thread(catalog.queue().topics)
        return _json({"status": "ready"})

    async def metrics(_: Request) -> Response:
        return _json(telemetry.snapshot())

    return [
        Route("/health", ready),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/health/telemetry", metrics),
    ]
