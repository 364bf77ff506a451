"""The HTTP API as an OpenAPI 3.1 document, made from the catalog: `GET /openapi.json`.

Every stream table has paths of its own, whose bodies are its declared schema. A caller sees the
tables that its token may read or write.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from neuralake import __version__
from neuralake.catalog import Catalog
from neuralake.records.json_schema import row_schema
from neuralake.records.media_types import ARROW, CSV, JSON, NDJSON, PARQUET, TSV
from neuralake.schema import declare
from neuralake.serve.caller import ANYONE, Caller, caller_of
from neuralake.serve.problem import PROBLEM_MEDIA_TYPE
from neuralake.tables import DeltaTable
from neuralake.writer import stream_tables

__all__ = ["OpenApi", "document"]

_TEXT = {"schema": {"type": "string"}}
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_REFUSED = {
    400: "The body cannot be read, or a parameter or header is not known.",
    401: "The server asks for a token.",
    403: "The token does not allow this.",
    404: "There is no such table.",
    405: "There is no such method here.",
    409: "The sequence is not the producer's next one; the error says which would be.",
    410: "The queue keeps no more what was asked for; `trimmed` is the first usable `after`.",
    413: "The body is too large.",
    415: "The content type or encoding is not one that is read.",
    422: "A row does not fit; `row`, `column` and `reason` say where and why.",
    429: "The queue is full, or the sender sends too much: wait `Retry-After` seconds.",
    500: "A person has to look at the server.",
    503: "Nothing was stored: wait `Retry-After` seconds, then send the same again.",
}


class OpenApi:
    """Answers `GET /openapi.json`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def get(self, request: Request) -> Response:
        """The document, of what the caller may use."""
        found = document(self._catalog, caller_of(request.scope))
        # People read it too, in a browser.
        text = msgspec.json.format(msgspec.json.encode(found))
        return Response(text + b"\n", media_type="application/json")


def document(catalog: Catalog, caller: Caller = ANYONE) -> dict[str, Any]:
    """The OpenAPI document of the API over `catalog`, as `caller` may use it. Does no I/O."""
    paths: dict[str, Any] = {}
    for topic, table in stream_tables(catalog):
        path, may_read = f"/v1/{topic.replace('.', '/', 1)}", caller.may("read", topic)
        is_ours = table.stream is not None and table.stream.kafka is None
        may_write = caller.may("write", topic)
        if may_write or may_read:
            post = {"post": _post(topic, table)} if is_ours and may_write else {}
            paths[path] = post | {"get": _progress(topic)}
        if may_read:
            paths[f"{path}/tail"] = {"get": _tail(topic)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": catalog.settings.site.title,
            "version": __version__,
            "description": "Rows in, and SQL out, of a neuralake platform.",
        },
        "security": [{}, {"token": []}],
        "paths": paths | _fixed(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _post(topic: str, table: DeltaTable) -> dict[str, Any]:
    row = row_schema(declare(table.schema))
    if table.stream is not None and table.stream.unknown_columns != "reject":
        del row["additionalProperties"]
    rows = {"type": "array", "items": row, "minItems": 1}
    csv = ",".join(field.name for field in table.schema)
    return {
        "operationId": f"send {topic}",
        "summary": f"Send rows to {topic}.",
        "description": table.description or "",
        "parameters": [*_post_parameters()],
        "requestBody": {
            "required": True,
            "description": "It may be packed: `Content-Encoding: gzip` or `zstd`.",
            "content": {
                JSON: {"schema": {"anyOf": [row, rows]}},
                NDJSON: _TEXT,
                ARROW: _BYTES,
                PARQUET: _BYTES,
                CSV: {"schema": {"type": "string", "description": f"With a header: {csv}"}},
                TSV: _TEXT,
            },
        },
        "responses": {
            "202": _json("The rows are valid and durable, and will be in the table.", "Stored"),
            "200": _json("The same, and they are in the table (`wait=committed`).", "Stored"),
            **_problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503),
        },
    }


def _post_parameters() -> Iterator[dict[str, Any]]:
    yield {
        "name": "wait",
        "in": "query",
        "description": "Answer when the rows are in the table, or after `ingest.wait_s_max`.",
        "schema": {"enum": ["committed"]},
    }
    yield {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key again, with the same body, stores nothing.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    }
    # What goes with what cannot be said in OpenAPI: both of these, or a key, or none.
    yield {
        "name": "Neuralake-Producer",
        "in": "header",
        "description": "Who numbers its requests for this table; with `Neuralake-Sequence`, and "
        "without `Idempotency-Key`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    }
    yield {
        "name": "Neuralake-Sequence",
        "in": "header",
        "description": "1, 2, …: only the next one is stored, the newest ones may be repeated.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 10**15},
    }
    yield {
        "name": "Neuralake-Queue",
        "in": "header",
        "description": "The queue that the sender's numbers count in (`queue` of `GET /v1`); any "
        "other answers 409 and stores nothing.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    }


def _progress(topic: str) -> dict[str, Any]:
    return {
        "operationId": f"progress {topic}",
        "summary": f"Schema of {topic}, and how far its rows are.",
        "responses": {
            "200": _json("What is stored, and what is in the table.", "Progress"),
            **_problems(401, 403, 404, 500, 503),
        },
    }


def _tail(topic: str) -> dict[str, Any]:
    return {
        "operationId": f"tail {topic}",
        "summary": f"Rows of {topic} as they were acknowledged, behind a position.",
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name == "after",
                "description": said,
                "schema": schema,
            }
            for name, said, schema in (
                ("after", "Position that the rows are behind.", _whole(0)),
                ("partition", "Of a topic with several.", {"type": "string"}),
                ("wait_s", "Wait so long for rows to come.", {"type": "number", "minimum": 0}),
                ("bytes_max", "Most bytes of rows in memory.", _whole(1)),
            )
        ],
        "responses": {
            "200": {
                "description": "An Arrow stream; it has no rows if there are none.",
                "headers": {
                    name: {"description": said, "schema": {"type": "string"}}
                    for name, said in (
                        ("Neuralake-Position", "Ask for what is behind it next."),
                        ("Neuralake-Last", "The newest position there is."),
                        ("Neuralake-Queue", "The queue's identity."),
                        ("Neuralake-Rows", "Rows of this answer."),
                    )
                },
                "content": {ARROW: _BYTES},
            },
            **_problems(400, 401, 403, 404, 410, 429, 500, 503),
        },
    }


def _whole(least: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": 2**63 - 1}


def _fixed() -> dict[str, Any]:
    """Paths that every catalog has."""
    answer = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string"}},
    }
    return {
        "/v1": {
            "get": {
                "operationId": "topics",
                "summary": "The queue's identity, and the tables with rows in it.",
                "responses": {
                    "200": _json("What the caller may read of it.", "Topics"),
                    **_problems(401, 500, 503),
                },
            }
        },
        "/api/sql": {"post": _sql()},
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "What all parts do, for Prometheus.",
                "responses": {
                    "200": {"description": "Metrics.", "content": {"text/plain": _TEXT}},
                    **_problems(401),
                },
            }
        },
        **{
            path: {
                "get": {
                    "operationId": f"get {path}",
                    "summary": said,
                    "security": [],
                    "responses": {
                        str(status): {
                            "description": said,
                            "content": {JSON: {"schema": answer}},
                        }
                        for status in statuses
                    },
                }
            }
            for path, said, statuses in (
                ("/health", "Whether it can take rows.", (200, 503)),
                ("/health/ready", "Whether it can take rows.", (200, 503)),
                ("/health/live", "Whether the process answers.", (200,)),
            )
        },
        "/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This document.",
                "responses": {
                    "200": {"description": "OpenAPI 3.1.", "content": {JSON: {"schema": {}}}},
                    **_problems(401),
                },
            }
        },
    }


def _sql() -> dict[str, Any]:
    return {
        "operationId": "query",
        "summary": "Answer one read-only SQL query.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["sql"],
                        "properties": {
                            "sql": {"type": "string"},
                            "limit": _whole(0) | {"type": ["integer", "null"]},
                            "live": {"type": "boolean"},
                        },
                        "additionalProperties": False,
                    }
                },
                "text/plain": _TEXT,
            },
        },
        "responses": {
            "200": {
                "description": "The rows, as JSON, CSV or an Arrow stream by `Accept`.",
                "content": {JSON: {"schema": {"type": "object"}}, CSV: _TEXT, ARROW: _BYTES},
            },
            **_problems(400, 401, 403, 404, 406, 413, 415, 429, 500, 503, 504),
        },
    }


@cache
def _schemas() -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 0}
    text = {"type": "string"}
    places = ("position", "committed_position", "trimmed_position", "rows", "bytes")
    seconds = {"type": "number", "minimum": 0}
    partition = {"partition": text, **dict.fromkeys(places, whole), "lag_s": seconds}
    return {
        "Problem": {
            "description": "RFC 9457; the facts of the error are members beside the standard ones.",
            **_record({"type": text, "title": text, "status": whole, "detail": text}),
        },
        "Stored": _record(
            {"position": whole, "rows": whole, "repeated": {"type": "boolean"}},
            {
                "partition": text,
                "version": whole,
                "note": text,
                "dead_letters": whole,
                "reasons": {"type": "array", "items": {"type": "object"}},
                "dropped_columns": {"type": "object", "additionalProperties": whole},
            },
        ),
        "Topics": _record({"queue": text, "topics": {"type": "array", "items": text}}),
        "Progress": _record(
            {
                "database": text,
                "table": text,
                "queue": text,
                "columns": {"type": "array", "items": {"type": "object"}},
                "partition_by": {"type": "array", "items": text},
                "position": whole,
                "committed_position": whole,
                "version": {"type": ["integer", "null"]},
                "lag_s": seconds,
                "partitions": {"type": "array", "items": _record(partition)},
            }
        ),
    }


def _record(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
    }


def _json(description: str, name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        str(status): {
            "description": _REFUSED.get(status, "Refused."),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}},
            **(
                {"headers": {"Retry-After": {"schema": {"type": "integer"}}}}
                if status in (429, 503)
                else {}
            ),
        }
        for status in statuses
    }
