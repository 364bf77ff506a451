"""What a process did, as plain data: counters, gauges and histograms of durations.

Nothing is sent anywhere. Parts count into the `Telemetry` they are given; whoever shows it reads
`series()`. Thread-safe. Names say what is counted and end in the unit (`writer_commit_seconds`).
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from typing import Literal

import msgspec

__all__ = ["BOUNDS_S", "Series", "Telemetry", "quantile"]

BOUNDS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)
"""Upper bounds of the buckets of every histogram, inclusive; one more bucket has no bound."""

_Labels = tuple[tuple[str, str], ...]
_Key = tuple[str, _Labels]


class Series(msgspec.Struct, frozen=True):
    """One series at one moment."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    labels: _Labels
    """Sorted by label."""
    value: float
    """Of a histogram: the sum of all samples."""
    counts: tuple[int, ...] = ()
    """Of a histogram: samples in each bucket, int[len(BOUNDS_S) + 1]."""


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total = 0.0


class Telemetry:
    """Counters, gauges and histograms by name and labels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: defaultdict[_Key, float] = defaultdict(float)
        self._gauges: dict[_Key, float] = {}
        self._histograms: defaultdict[_Key, _Histogram] = defaultdict(_Histogram)

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counters[_key(name, labels)] += amount

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._gauges[_key(name, labels)] = value

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        """Add a duration to a histogram."""
        with self._lock:
            found = self._histograms[_key(name, labels)]
            found.counts[bisect_left(BOUNDS_S, seconds)] += 1
            found.total += seconds

    def counter(self, name: str, /, **labels: str) -> float:
        """The counter `name`: the sum of all its series that have these labels."""
        asked = set(labels.items())
        with self._lock:
            return sum(
                value
                for (found, at), value in self._counters.items()
                if found == name and asked <= {*at}
            )

    def series(self) -> list[Series]:
        """Every series, as it is now."""
        with self._lock:
            return [
                *(Series("counter", *key, value) for key, value in self._counters.items()),
                *(Series("gauge", *key, value) for key, value in self._gauges.items()),
                *(
                    Series("histogram", *key, found.total, tuple(found.counts))
                    for key, found in self._histograms.items()
                ),
            ]


def quantile(samples: list[float], share: float) -> float:
    """The sample at `share` (0 to 1) of the sorted samples, by nearest rank; nan if none."""
    if not samples:
        return float("nan")
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _key(name: str, labels: dict[str, str]) -> _Key:
    return name, tuple(sorted(labels.items())) if labels else ()
