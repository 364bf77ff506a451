"""Text that is fit to be published: addresses without keys, reasons without this machine's paths.

The manifest and the site may be put where everybody sees them, so what comes from errors and
definitions passes through here first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from neuralake.manifest.model import Table

__all__ = ["clean", "problem_of", "shown_uri"]

_REASON_MAX = 400
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


def problem_of(look: Callable[[], None], address: Callable[[], str], shown: str) -> str | None:
    """Why `look` failed, in one sentence without this machine's paths; None if it did not."""
    try:
        look()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 the edge of a table: a Rust panic is none of Exception
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0]
        with suppress(Exception):  # The address itself may be what is wrong.
            # Messages quote an address with repr, so its quotes may be escaped.
            for found in (address(), repr(address())[1:-1]):
                reason = reason.replace(found, shown)
        reason = _CREDENTIALS.sub("://", reason)
        return reason if len(reason) <= _REASON_MAX else reason[: _REASON_MAX - 1] + "…"
    return None


def shown_uri(uri: str) -> str:
    """`uri` without user, password and query, where store URLs carry keys."""
    if not uri or "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.partition("://")[0] + "://…"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def clean(table: Table) -> Table:
    """`table` without lone surrogates, which Python's text may hold and no file can."""
    try:
        msgspec.json.encode(table)
    except UnicodeEncodeError:
        return msgspec.convert(_without_surrogates(msgspec.to_builtins(table)), Table)
    return table


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case list() | tuple():
            return [_without_surrogates(entry) for entry in value]
        case dict():
            return {key: _without_surrogates(entry) for key, entry in value.items()}
    return value
