"""When waiting envelopes are worth a commit: a pure decision from counts and times.

The pace is a bound on age, not a delay: a table that was quiet commits its first row at once, and
a busy one commits at most once per `age_ms_max`, so a row never waits longer than that for its
commit to begin. Many rows or bytes commit earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuralake.settings import WriterSettings
from neuralake.tables import Stream

__all__ = ["FlushLimits", "is_due"]


@dataclass(frozen=True, slots=True)
class FlushLimits:
    """How much may wait for one commit: milliseconds, rows, and bytes of payload."""

    age_ms_max: int
    rows_max: int
    bytes_max: int

    @classmethod
    def of(cls, stream: Stream, settings: WriterSettings) -> FlushLimits:
        """The limits of one table: its `Stream` where that speaks, else the lake's settings."""
        return cls(
            age_ms_max=stream.flush_ms_max or settings.flush_ms_max,
            rows_max=stream.flush_rows_max or settings.flush_rows_max,
            bytes_max=stream.flush_bytes_max or settings.flush_bytes_max,
        )


def is_due(limits: FlushLimits, *, rows: int, payload_bytes: int, since_commit_s: float) -> bool:
    """Whether to commit now `rows` waiting rows, `since_commit_s` after the last commit began."""
    if rows == 0:
        return False
    return (
        rows >= limits.rows_max
        or payload_bytes >= limits.bytes_max
        or since_commit_s * 1000 >= limits.age_ms_max
    )
