"""The platform's HTTP application: ingest, tails, SQL, health and the catalog site on one port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeuralakeError
from neuralake.ingest.accounts import Accounts
from neuralake.ingest.committed import Watches
from neuralake.ingest.disk_health import DiskHealth
from neuralake.ingest.fast_path import FAST_PATH, FastPath
from neuralake.ingest.guard import Door, Guard
from neuralake.ingest.health import health_routes
from neuralake.ingest.lag import Lags
from neuralake.ingest.metrics import Metrics
from neuralake.ingest.openapi import OpenApi
from neuralake.ingest.routes import IngestRoutes
from neuralake.ingest.site_files import SiteFiles
from neuralake.ingest.tail import TailEndpoint
from neuralake.ingest.target import Targets
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
    one shape: `problem+json`. Before it stops, call `app.state.end_waits`: who waits for rows that
    may come is then answered at once.
    """
    tokens = TokenFile(catalog.settings.tokens_path, clock=clock)
    telemetry = telemetry or catalog.telemetry
    gateway = Gateway(catalog)
    clock, watches = clock or SystemClock(), Watches(catalog)
    targets, door = Targets(catalog, watches), Door(tokens, is_public=is_public)
    disks = DiskHealth(catalog, clock=clock)
    accounts = Accounts(
        catalog.settings, clock=clock, telemetry=telemetry, sharers=sharers, doubt=disks.doubt
    )
    ingest = IngestRoutes(catalog, targets, accounts, clock=clock)
    fast_path = FastPath(door, targets, accounts, clock=clock)
    tail = TailEndpoint(catalog, telemetry=telemetry)
    lags = Lags(catalog, watches, clock=clock)
    metrics = Metrics(catalog, telemetry, lags, clock=clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        with gateway:
            yield {FAST_PATH: fast_path}
        await targets.drained()
        ingest.close()
        accounts.close()
        tail.close()

    app = Starlette(
        routes=[
            *ingest.routes(),
            Route("/v1/{database}/{table}/tail", tail, methods=["GET"]),
            *health_routes(disks),
            Route("/metrics", metrics.get),
            Route("/openapi.json", OpenApi(catalog).get),
            Route("/api/sql", SqlEndpoint(gateway), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, door=door)],
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
