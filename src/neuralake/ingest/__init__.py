"""Ingest: rows come in over HTTP or from files, are checked, and are durable when we say so.

Importing this package loads nothing; its modules load Starlette and uvicorn when named.
"""

__all__: list[str] = []
