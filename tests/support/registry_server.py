"""A schema registry: the endpoints that readers ask, as Confluent documents them, over HTTP.

It keeps what is registered, whatever it is: schemas make it a broken one, or a hostile one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["RegistryServer", "registry_server"]


class RegistryServer(ThreadingHTTPServer):
    """On a port of 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[str] = []
        self._schemas: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def register(
        self,
        subject: str,
        schema: str,
        kind: str,
        *references: tuple[str, str, int],
        version: int = 0,
    ) -> int:
        """The id of `schema`, which refers to others by `(name, subject, version)`."""
        number = 1 + sum(each["subject"] == subject for each in self._schemas)
        found: dict[str, Any] = {
            "subject": subject,
            "version": version or number,
            "id": len(self._schemas) + 1,
            "schema": schema,
        }
        if kind != "AVRO":
            found["schemaType"] = kind
        if references:
            names = ("name", "subject", "version")
            found["references"] = [dict(zip(names, each, strict=True)) for each in references]
        self._schemas.append(found)
        return len(self._schemas)

    def answer(self, path: str) -> dict[str, Any] | None:
        """What is at `path`; Protobuf only as descriptors."""
        parts, query = urlsplit(path), parse_qs(urlsplit(path).query)
        found = [
            each
            for each in self._schemas
            if parts.path == f"/schemas/ids/{each['id']}"
            or unquote(parts.path) == f"/subjects/{each['subject']}/versions/{each['version']}"
        ]
        if not found or ("schemaType" in found[0]) != (query.get("format") == ["serialized"]):
            return None
        return found[0]


class _Answer(BaseHTTPRequestHandler):
    server: RegistryServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        found = self.server.answer(self.path)
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.end_headers()
        self.wfile.write(json.dumps(found or {"error_code": 40403}).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def registry_server() -> Iterator[RegistryServer]:
    """A registry without schemas."""
    with RegistryServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
