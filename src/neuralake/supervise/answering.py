"""What a server of this lake says of itself: `GET /health/live` and `/health/ready`."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from urllib.parse import urlsplit

import msgspec

__all__ = ["is_healthy", "unready"]

_ANSWER_BYTES_MAX = 64 * 1024


class _Reason(msgspec.Struct):
    part: str
    detail: str


class _Unready(msgspec.Struct):
    reasons: list[_Reason]


def is_healthy(host: str, port: int, *, tls: bool = False, timeout_s: float = 2.0) -> bool:
    """Whether a server answers `GET /health/live` with 200; who it is, is not checked.

    It is up then; that it has room for rows is another question, which does not hold up a start.
    """
    answer = _get(host, port, "/health/live", tls=tls, timeout_s=timeout_s)
    return answer is not None and answer[0] == http.client.OK


def unready(url: str, *, timeout_s: float = 5.0) -> list[str] | None:
    """Why the server at `url` takes no rows now: nothing if it does; None: it does not answer."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    answer = _get(parts.hostname or "", port, "/health/ready", tls=tls, timeout_s=timeout_s)
    if answer is None:
        return None
    status, body = answer
    if status == http.client.OK:
        return []
    try:
        reasons = msgspec.json.decode(body, type=_Unready).reasons
    except msgspec.DecodeError:
        return [f"it answers {status}"]
    return [f"{reason.part}: {reason.detail}" for reason in reasons]


def _get(
    host: str, port: int, path: str, *, tls: bool, timeout_s: float
) -> tuple[int, bytes] | None:
    connection: http.client.HTTPConnection
    if tls:
        # Our own server at an address of this machine, which its certificate need not name.
        context = ssl._create_unverified_context()  # noqa: S323 nothing is sent, nothing believed
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException):
            return None
