"""What a server answers, and what that means for whoever sends rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import msgspec

from neuralake.errors import (
    Conflict,
    Forbidden,
    InvalidRows,
    KeyReused,
    NeuralakeError,
    OutOfOrder,
    QueueFull,
    SchemaMismatch,
    TooLarge,
    Trimmed,
    Unauthorized,
    Unavailable,
    UnknownName,
    UnknownProducer,
    UnsupportedMedia,
    UsageError,
)

__all__ = ["Answer", "Verdict"]

# The last two are arguments of an error, and no facts of ours.
_NO_FACTS = ("type", "title", "status", "detail", "message", "self")
_OURS = "urn:neuralake:problem:"
_KINDS: dict[str, type[NeuralakeError]] = {
    "key-reused": KeyReused,
    "out-of-order": OutOfOrder,
    "schema-mismatch": SchemaMismatch,
    "unknown-producer": UnknownProducer,
}
_STATUSES: dict[int, type[NeuralakeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: UnknownName,
    409: Conflict,
    410: Trimmed,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InvalidRows,
    429: QueueFull,
}


class Verdict(Enum):
    """What a sender does next."""

    STORED = "stored"
    REFUSED = "refused"
    """These rows fail again; nothing is stored."""
    CONFLICT = "conflict"
    """The rows are fine, but their number or key is not; nothing is stored."""
    LATER = "later"
    """Nothing is stored now; a moment, or a person, changes that."""
    UNKNOWN = "unknown"
    """Whether they are stored is not known."""


@dataclass(frozen=True)
class Answer:
    """A server's answer, all of it."""

    status: int
    headers: Mapping[str, str]
    """By name, in lower case."""
    body: bytes = b""

    @cached_property
    def members(self) -> dict[str, Any]:
        """Its JSON; of something that is none, its beginning as `detail`."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            return {"detail": self.body[:200].decode(errors="replace")}

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float:
        """How long the server asks to wait; 0 if it does not, or gives a date."""
        after = self.headers.get("retry-after", "")
        return float(after) if after.isdecimal() and len(after) < 10 else 0.0

    @property
    def queue(self) -> str:
        """Which queue the server counts in; empty if it does not say so."""
        return self.headers.get("neuralake-queue", "")

    @property
    def verdict(self) -> Verdict:
        if self.is_good:
            # Whatever stands between may answer 200 with a page of its own.
            return Verdict.STORED if "position" in self.members else Verdict.UNKNOWN
        # Or refuse what our server would take: only that one can say that it never does.
        if self._kind and self.status in (400, 413, 422):
            return Verdict.CONFLICT if self._kind == "key-reused" else Verdict.REFUSED
        if self._kind and self.status == 409:
            return Verdict.CONFLICT
        return Verdict.LATER if self.status < 500 or self.status == 503 else Verdict.UNKNOWN

    def error(self) -> NeuralakeError:
        """What a server of ours raised to answer so; its facts, too."""
        facts = {name: value for name, value in self.members.items() if name not in _NO_FACTS}
        is_fault = 400 <= self.status < 500
        default: type[NeuralakeError] = UsageError if is_fault else Unavailable
        kind = _KINDS.get(self._kind) or _STATUSES.get(self.status, default)
        return kind(str(self.members.get("detail", f"status {self.status}")), **facts)

    @property
    def _kind(self) -> str:
        """Which of our errors it is; empty for what somebody else says."""
        kind = str(self.members.get("type", ""))
        return kind.removeprefix(_OURS) if kind.startswith(_OURS) else ""
