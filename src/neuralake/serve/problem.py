"""Errors as HTTP answers: `application/problem+json` (RFC 9457), one shape for the whole server.

    {"type": "urn:neuralake:problem:unknown-name", "title": "Unknown name", "status": 404,
     "detail": "No table 'spike' in …", "kind": "table", "name": "spike", "known": ["spikes"]}

The facts of our errors are members beside the standard ones. An error that is not ours answers
500 without its text: a stranger must not learn paths or data from it, the log has it. Of absolute
paths and of places in object stores, only the last part is told, and of servers nothing.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from neuralake.errors import NeuralakeError, Unavailable, outcome

__all__ = ["PROBLEM_MEDIA_TYPE", "problem", "problem_response"]

PROBLEM_MEDIA_TYPE = "application/problem+json"
_STANDARD = ("type", "title", "status", "detail")
_RETRY_AFTER_S = 1.0
# An absolute path of two parts or more; of it, the last part may be told. Not our own routes.
_PATH = re.compile(r"(?<![\w.:/*<])/(?!v1/|api/|health/)(?:[^/\s'\",;]+/)+([^/\s'\",;]*)")
# The same of a place in an object store, whose bucket is nobody's business either.
_STORE = re.compile(r"\bs3[an]?://[^/\s'\",;]*(?P<key>[^\s'\",;]*)")
# Nor is where its server is, or a schema registry; our own routes are.
_SERVER = re.compile(r"\bhttps?://(?![^/\s]+/(?:v1|api|health)/)[^\s'\",;)]+")
_UNTOLD = ("bucket",)
_LOG = logging.getLogger(__name__)


def problem(error: BaseException) -> dict[str, Any]:
    """The members of the problem document of `error`, all of them JSON values."""
    if isinstance(error, HTTPException):
        return {
            "type": "about:blank",
            "title": error.detail,
            "status": error.status_code,
            "detail": _told(error),
        }
    if not isinstance(error, NeuralakeError):
        return {
            "type": "about:blank",
            "title": "Internal error",
            "status": outcome(error).status,
            "detail": "The server failed in a way that is not your fault; its log says how.",
        }
    # The type is one of the documented tree, also where a part of ours has a subclass of it.
    kind = next(cls for cls in type(error).__mro__ if cls.__module__ == NeuralakeError.__module__)
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()
    return {
        "type": f"urn:neuralake:problem:{words.replace(' ', '-')}",
        "title": words.capitalize(),
        "status": outcome(error).status,
        "detail": _without_places(_without_untold(error)),
    } | {
        name: _plain(fact)
        for name, fact in error.facts.items()
        if name not in _STANDARD and name not in _UNTOLD
    }


def problem_response(error: BaseException, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for `error`, with `Retry-After` if waiting helps; never raises."""
    members = problem(error)
    if isinstance(error, NeuralakeError) and members["detail"] != error.message:
        _LOG.warning("an error that was answered, with its paths: %s", error.message)
    sent = dict(getattr(error, "headers", None) or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, Unavailable):
        after_s = error.facts.get("retry_after_s", _RETRY_AFTER_S)
        # Whole seconds, as the header wants them, and never 0: that would mean no wait at all.
        sent["Retry-After"] = str(max(1, math.ceil(after_s)))
    return Response(
        msgspec.json.encode(members) + b"\n",
        status_code=members["status"],
        headers=sent | dict(headers or {}),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def _told(error: HTTPException) -> str:
    """What the router says with two words, in a sentence that helps."""
    if (error.status_code, error.detail) == (404, "Not Found"):
        return (
            "There is nothing at this address. Rows go to /v1/{database}/{table}, SQL to /api/sql; "
            "GET /openapi.json lists all there is."
        )
    if (error.status_code, error.detail) == (405, "Method Not Allowed"):
        allowed = (error.headers or {}).get("Allow", "")
        return f"This address does not take that method; it takes {allowed or 'others'}."
    return error.detail


def _without_untold(error: NeuralakeError) -> str:
    """The message without the facts that are told to nobody, which it quotes."""
    text = error.message
    for name in _UNTOLD:
        if name in error.facts:
            text = text.replace(repr(error.facts[name]), "…")
    return text


def _without_places(text: str) -> str:
    stores_told = _STORE.sub(lambda found: "…/" + found["key"].rstrip("/").split("/")[-1], text)
    return _PATH.sub(r"…/\1", _SERVER.sub("…", stores_told))


def _plain(fact: Any) -> Any:
    """`fact` as a JSON value; what JSON has no word for becomes its text."""
    if isinstance(fact, Mapping):
        return {str(name): _plain(value) for name, value in fact.items()}
    if isinstance(fact, list | tuple | set | frozenset):
        return [_plain(value) for value in fact]
    if isinstance(fact, str):
        return _without_places(fact)
    if fact is None or isinstance(fact, bool | int):
        return fact
    if isinstance(fact, float):
        return fact if math.isfinite(fact) else str(fact)
    return _without_places(str(fact))
