"""What a sender is told of rows that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from neuralake.queue import Appended
from neuralake.records.dropped import Dropped
from neuralake.records.letters import DeadLetter

__all__ = ["PRODUCER", "QUEUE", "SEQUENCE", "Stored", "answer", "json_response", "queue_of"]

PRODUCER, SEQUENCE, QUEUE = "Neuralake-Producer", "Neuralake-Sequence", "Neuralake-Queue"

# Enough to see what is wrong; the table of dead letters has all.
_REASONS_MAX = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """What has become of a request."""

    appended: Appended
    rows: int
    letters: Sequence[DeadLetter] = ()
    dropped: Dropped | None = None


def answer(topic: str, stored: Stored) -> dict[str, Any]:
    """The members of the answer for rows of `topic`."""
    appended = stored.appended
    partition = {} if appended.partition == topic else {"partition": appended.partition}
    told = {
        **partition,
        "position": appended.position,
        "rows": stored.rows,
        "repeated": appended.repeated,
    }
    if stored.letters:
        told["dead_letters"] = len(stored.letters)
        told["reasons"] = [
            {"row": letter.row, "column": letter.column, "reason": letter.reason}
            for letter in stored.letters[:_REASONS_MAX]
        ]
    if stored.dropped is not None and stored.dropped.rows:
        told["dropped_columns"] = stored.dropped.rows
    return told


def queue_of(queue_id: str) -> dict[str, str]:
    """Positions and sequences count in one queue: who sends should see when it is another one."""
    return {QUEUE: queue_id}


def json_response(
    value: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`value` as JSON, on a line of its own, as terminals show it."""
    body = msgspec.json.encode(value) + b"\n"
    return Response(body, status_code=status, headers=headers, media_type="application/json")
