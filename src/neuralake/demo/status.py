"""What the demo knows at one moment, as plain data: the panel and the plain lines show the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from neuralake.demo.freshness import FreshnessProbe
from neuralake.demo.log_watch import Compaction, LogWatch
from neuralake.demo.sender import Sender

__all__ = ["FreshnessStatus", "Meter", "Status", "StreamStatus", "freshness", "observe"]

_RATES_KEPT = 24


@dataclass
class Meter:
    """Turns a growing count into a rate, averaged over about a second."""

    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_RATES_KEPT))
    _seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=5))

    def update(self, now_s: float, count: int) -> None:
        """The count at `now_s`."""
        if self._seen and now_s > self._seen[0][0]:
            then_s, before = self._seen[0]
            self.rates.append((count - before) / (now_s - then_s))
        self._seen.append((now_s, count))


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One table: what its sender sends and what its log holds."""

    table: str
    rates: tuple[float, ...]
    """Acknowledged events per second, oldest first."""
    acknowledged: int
    answer_p50_ms: float
    answer_p99_ms: float
    commits: int
    files_written: int
    files_live: int
    retries: int
    is_waiting: bool
    """Whether its last batch was not acknowledged and is sent again."""
    is_over: bool


@dataclass(frozen=True, slots=True)
class FreshnessStatus:
    """Ages of the newest row, for one way of reading."""

    how: str
    p50_ms: float
    p99_ms: float
    reads: int
    recent_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """All of it."""

    elapsed_s: float
    seconds: float | None
    """When it ends by itself."""
    url: str
    data_time: datetime
    data_share: float
    """How much of the year has been replayed."""
    speed_up: float
    streams: tuple[StreamStatus, ...]
    freshness: tuple[FreshnessStatus, ...]
    compactions: tuple[Compaction, ...]
    """The latest of each table."""
    cursor: dict[str, float]
    restarts: dict[str, int]

    @property
    def acknowledged(self) -> int:
        """Rows of all streams."""
        return sum(stream.acknowledged for stream in self.streams)


def observe(
    senders: Sequence[Sender], logs: Sequence[LogWatch], meters: Sequence[Meter], *, now_s: float
) -> tuple[StreamStatus, ...]:
    """Bring logs and meters up to date, and say how each stream is."""
    rows = []
    for sender, log, meter in zip(senders, logs, meters, strict=True):
        log.look()
        meter.update(now_s, sender.rows)
        rows.append(
            StreamStatus(
                table=sender.source.table,
                rates=tuple(meter.rates),
                acknowledged=sender.rows,
                answer_p50_ms=sender.latency_ms(0.5),
                answer_p99_ms=sender.latency_ms(0.99),
                commits=log.commits,
                files_written=log.files_written,
                files_live=log.files_live,
                retries=sender.retries,
                is_waiting=sender.is_waiting,
                is_over=not sender.is_alive(),
            )
        )
    return tuple(rows)


def freshness(probe: FreshnessProbe) -> tuple[FreshnessStatus, ...]:
    """What the probe has seen so far."""
    return tuple(
        FreshnessStatus(
            how=how,
            p50_ms=ages.quantile_ms(0.5),
            p99_ms=ages.quantile_ms(0.99),
            reads=len(ages.all_s),
            recent_ms=tuple(age_s * 1000 for age_s in list(ages.recent_s)),
        )
        for how, ages in (("live frame", probe.live), ("Delta table", probe.table))
    )
