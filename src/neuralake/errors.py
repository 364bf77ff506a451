"""Every error that neuralake raises on purpose, in one tree of four kinds.

The kind says what the caller does next: fix the call (`UsageError`), read again and retry
(`Conflict`), wait and retry (`Unavailable`), or call a person (`NeedsAttention`). A subclass exists
only where callers act differently. The facts of an error are its fields; the sentence is for
people.
`outcome` maps any exception to an HTTP status and an exit code: one table for servers and CLI.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

__all__ = [
    "CommitConflict",
    "Conflict",
    "Forbidden",
    "InvalidRows",
    "KeyReused",
    "MissingExtra",
    "NeedsAttention",
    "NeuralakeError",
    "OutOfOrder",
    "Outcome",
    "QueryError",
    "QueueFull",
    "SchemaMismatch",
    "SettingsError",
    "TimedOut",
    "TooLarge",
    "Trimmed",
    "Unauthorized",
    "Unavailable",
    "UnknownName",
    "UnknownProducer",
    "UnsupportedFeature",
    "UnsupportedMedia",
    "UsageError",
    "outcome",
    "suggestion",
]


# The search for a near name takes memory and time by the length of the name, which may be anyone's.
_NAME_LENGTH_MAX = 200


class NeuralakeError(Exception):
    """Root of the tree. `facts` holds what the sentence says, as data."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        # Facts read as fields: `error.row`, `error.known`. `__dict__` because a half-built
        # exception (unpickling) has no `facts` yet, and would ask for it here without end.
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None


class UsageError(NeuralakeError):
    """Fix the call: the same call will fail again."""


class Conflict(NeuralakeError):
    """Read again and retry: somebody else was quicker, and nothing of this call was kept."""


class Unavailable(NeuralakeError):
    """Wait and retry: nothing was stored. `retry_after_s` may say how long."""


class NeedsAttention(NeuralakeError):
    """A person must look: going on could lose or double data, so we stop."""


class UnknownName(UsageError):
    """A database, table, column or file is not there. Facts: `kind`, `name`, `known`."""


class SettingsError(UsageError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class SchemaMismatch(UsageError):
    """Columns of the data and of the table differ. Facts: `column` and, where known, `row`."""


class InvalidRows(UsageError):
    """Rows do not fit the declared schema. Facts: `row` (from 0), `column`, `reason`."""


class KeyReused(UsageError):
    """An idempotency key came with something else the first time. Facts: `topic`, `position`."""


class TooLarge(UsageError):
    """The request is larger than a limit; it will never fit. Facts: `limit`, `found`."""


class UnsupportedMedia(UsageError):
    """The body's content type or encoding is not one we read. Facts: `found`, `known`."""


class UnsupportedFeature(UsageError):
    """The table needs a protocol feature that we do not implement. Facts: `features`."""


class MissingExtra(UsageError):
    """An optional dependency is not installed. Facts: `extra`."""


class QueryError(UsageError):
    """A SQL text that does not plan, is not read-only, or exceeds a limit of the gateway."""


class Unauthorized(UsageError):
    """The request has no token, or one that counts no more."""


class Forbidden(UsageError):
    """The token does not allow this. Facts: `verb`, `name`."""


class CommitConflict(Conflict):
    """Another commit touched what this one needed. Facts: `version`."""


class Trimmed(Conflict):
    """The queue no longer keeps the asked position. Facts: `topic`, `after`, `trimmed`."""


class OutOfOrder(Conflict):
    """A producer's number is not the one that comes next. Facts: `sequence`, `expected`."""


class UnknownProducer(Conflict):
    """A producer goes on whom the queue does not know (any more). Facts: `producer`, `queue`."""


class QueueFull(Unavailable):
    """The queue holds as much as it may. Facts: `retry_after_s`."""


class TimedOut(Unavailable):
    """The time limit of the call passed. Facts: `timeout_s`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an exception becomes at the edge of a process."""

    status: int
    exit_code: int


# Exit codes: 2 as argument parsers use it; 70, 75 and 78 as sysexits.h defines them.
_OUTCOMES: dict[type[BaseException], Outcome] = {
    UnknownName: Outcome(404, 2),
    SettingsError: Outcome(500, 78),
    SchemaMismatch: Outcome(422, 2),
    InvalidRows: Outcome(422, 2),
    KeyReused: Outcome(422, 2),
    TooLarge: Outcome(413, 2),
    UnsupportedMedia: Outcome(415, 2),
    Unauthorized: Outcome(401, 2),
    Forbidden: Outcome(403, 2),
    UsageError: Outcome(400, 2),
    Trimmed: Outcome(410, 75),
    Conflict: Outcome(409, 75),
    QueueFull: Outcome(429, 75),
    TimedOut: Outcome(504, 75),
    Unavailable: Outcome(503, 75),
    NeedsAttention: Outcome(500, 70),
    BaseException: Outcome(500, 70),
}


def outcome(error: BaseException) -> Outcome:
    """The HTTP status and exit code of `error`, by its nearest class in the table."""
    return next(_OUTCOMES[cls] for cls in type(error).__mro__ if cls in _OUTCOMES)


def suggestion(name: str, known: list[str]) -> str:
    """` Did you mean 'x'?` with the nearest of `known`, or an empty string."""
    if len(name) > _NAME_LENGTH_MAX:
        return ""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
