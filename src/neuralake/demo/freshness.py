"""How old the newest row is that a reader sees: measured by reading, as anyone would.

A thread reads the cursor's newest rows again and again, through a live frame and from the Delta
table in turns, and compares the newest `time` with the clock when the answer is there: the age
includes the wait for the 20 ms bin to be sent, the platform, and the read itself.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field

import polars as pl

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.telemetry import quantile

__all__ = ["Ages", "FreshnessProbe"]

_log = logging.getLogger(__name__)

_PAUSE_S = 0.2


@dataclass
class Ages:
    """Ages of the newest row at each read, in seconds."""

    all_s: list[float] = field(default_factory=list)
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=40))

    def add(self, age_s: float) -> None:
        """One more read."""
        self.all_s.append(age_s)
        self.recent_s.append(age_s)

    def quantile_ms(self, share: float) -> float:
        """Of all reads; nan before the first."""
        return quantile(self.all_s, share) * 1000


class FreshnessProbe(threading.Thread):
    """Reads until `stop` is set.

    Attributes:
        live: ages seen through live frames.
        table: ages seen in the Delta table.
        newest: the newest cursor row of the last live read, by column.
        errors: reads that failed.
    """

    def __init__(
        self, catalog: Catalog, *, stop: threading.Event, clock: Clock | None = None
    ) -> None:
        super().__init__(name="freshness", daemon=True)
        self.live, self.table = Ages(), Ages()
        self.newest: dict[str, float] = {}
        self.errors = 0
        self._catalog, self._stop_event = catalog, stop
        self._clock = clock or SystemClock()

    def run(self) -> None:
        """Read in turns."""
        while not self._stop_event.is_set():
            self._read(self.live, live=True)
            self._read(self.table, live=False)
            self._clock.wait_s(_PAUSE_S, self._stop_event)

    def _read(self, ages: Ages, *, live: bool) -> None:
        cursor = self._catalog.db("neural").table("cursor", live=live)
        try:
            rows = cursor.filter(pl.col("event_id") == pl.col("event_id").max()).collect()
        except Exception as error:  # noqa: BLE001 a probe: what it cannot read, it counts
            _log.warning("Freshness probe: %s", error)
            self.errors += 1
            return
        if rows.is_empty():
            return
        newest = rows.row(0, named=True)
        ages.add(self._clock.now_s() - newest["time"].timestamp())
        if live:
            self.newest = {name: newest[name] for name in ("x", "y", "target_x", "target_y")}
