"""Ingest: rows come in over HTTP or from files, are checked, and are durable when we say so.

Importing this package loads nothing; its modules load Starlette and uvicorn when named. `Client`
and `AsyncClient` are for programs that send, and load no server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralake.client import AsyncClient as AsyncClient
    from neuralake.client import Client as Client
    from neuralake.client import Rejected as Rejected

__all__ = ["AsyncClient", "Client", "Rejected"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neuralake import client

    return getattr(client, name)
