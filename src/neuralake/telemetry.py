"""What a process did, as plain data: counters, gauges and bounded samples of durations.

Nothing is sent anywhere. Parts count into the `Telemetry` they are given; servers and the CLI
read `snapshot()`. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque

__all__ = ["Telemetry", "quantile"]

# 4,096 samples give p99 from about 40 values and cost 32 KiB a series.
_SAMPLES_MAX = 4096


class Telemetry:
    """Counters, gauges and samples by name and labels; `name{label=value}` in a snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: defaultdict[str, float] = defaultdict(float)
        self._gauges: dict[str, float] = {}
        self._samples: dict[str, deque[float]] = {}

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        with self._lock:
            self._counters[_series(name, labels)] += amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._gauges[_series(name, labels)] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a sample; the latest 4,096 of a series are kept."""
        key = _series(name, labels)
        with self._lock:
            self._samples.setdefault(key, deque(maxlen=_SAMPLES_MAX)).append(value)

    def counter(self, name: str, **labels: str) -> float:
        with self._lock:
            return self._counters.get(_series(name, labels), 0.0)

    def snapshot(self) -> dict[str, float]:
        """Every series by name; samples as `name.p50`, `name.p99` and `name.n`."""
        with self._lock:
            values = {**self._counters, **self._gauges}
            samples = {key: list(kept) for key, kept in self._samples.items()}
        for key, kept in samples.items():
            values |= {
                f"{key}.p50": quantile(kept, 0.5),
                f"{key}.p99": quantile(kept, 0.99),
                f"{key}.n": float(len(kept)),
            }
        return values


def quantile(samples: list[float], share: float) -> float:
    """The sample at `share` (0 to 1) of the sorted samples, by nearest rank; nan if none."""
    if not samples:
        return float("nan")
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _series(name: str, labels: dict[str, str]) -> str:
    if not labels:
        return name
    return name + "{" + ",".join(f"{key}={labels[key]}" for key in sorted(labels)) + "}"
