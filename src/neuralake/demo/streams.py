"""The demo's streams while they run: senders, the freshness probe, and what there is to show."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.demo.flights import read_flights, read_weather
from neuralake.demo.freshness import FreshnessProbe
from neuralake.demo.log_watch import LogWatch
from neuralake.demo.neural import NeuralSession
from neuralake.demo.sender import Sender
from neuralake.demo.sources import CursorSource, ReplaySource, SpikeSource
from neuralake.demo.status import Meter, Status, freshness, observe
from neuralake.storage import local_path
from neuralake.supervise import Supervisor

__all__ = ["Streams"]

# After the stop: the last batch of a sender may wait for a server that was just killed.
_JOIN_S_MAX = 60.0


class Streams:
    """Four devices that send to a platform, between `start` and `end`."""

    def __init__(
        self,
        catalog: Catalog,
        platform: Supervisor,
        *,
        speed_up: float,
        seconds: float | None,
        seed: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.neural = NeuralSession(seed)
        self._catalog, self._platform = catalog, platform
        self._speed_up, self._seconds = speed_up, seconds
        flights, weather = read_flights(), read_weather()
        self._begin: datetime = flights["time"][0]
        self._end: datetime = flights["time"][-1]
        # One moment on both clocks: rows carry the one, senders go by the other.
        start_s, started_s = self.clock.now_s(), self.clock.monotonic_s()
        name = f"s-{int(start_s)}"
        sources = (
            ReplaySource("air.flights", flights, begin=self._begin, speed_up=speed_up),
            ReplaySource(
                "air.weather", weather, begin=self._begin, speed_up=speed_up, interval_s=0.2
            ),
            SpikeSource(self.neural, name, start_s=start_s),
            CursorSource(self.neural, name, start_s=start_s),
        )
        self._stop = threading.Event()
        self.senders = [
            Sender(
                platform.url,
                source,
                run=name,
                stop=self._stop,
                clock=self.clock,
                started_s=started_s,
            )
            for source in sources
        ]
        self._probe = FreshnessProbe(catalog, stop=self._stop, clock=self.clock)
        self._logs = [LogWatch(source.table, self._folder(source.table)) for source in sources]
        self._meters = [Meter() for _ in sources]
        self._started_s = 0.0

    def start(self) -> None:
        """Begin to send."""
        self._started_s = self.clock.monotonic_s()
        for sender in self.senders:
            sender.start()
        self._probe.start()

    def end(self) -> None:
        """Send nothing new; return when the last batches are answered or given up."""
        self._stop.set()
        for sender in self.senders:
            sender.join(_JOIN_S_MAX)
        self._probe.join(_JOIN_S_MAX)

    @property
    def is_over(self) -> bool:
        """Whether the time is up, a sender failed, or (without a time) the year is over."""
        if any(sender.error is not None for sender in self.senders):
            return True
        if self._seconds is not None:
            return self.clock.monotonic_s() - self._started_s >= self._seconds
        return not any(sender.is_alive() for sender in self.senders[:2])

    @property
    def tables(self) -> Sequence[str]:
        """The tables that are sent to."""
        return [sender.source.table for sender in self.senders]

    def status(self) -> Status:
        """How everything is now."""
        now_s = self.clock.monotonic_s()
        elapsed_s = now_s - self._started_s
        replayed_s = min(elapsed_s * self._speed_up, (self._end - self._begin).total_seconds())
        share = replayed_s / (self._end - self._begin).total_seconds()
        streams = observe(self.senders, self._logs, self._meters, now_s=now_s)
        return Status(
            elapsed_s=elapsed_s,
            seconds=self._seconds,
            url=self._platform.url,
            data_time=self._begin + (self._end - self._begin) * share,
            data_share=share,
            speed_up=self._speed_up,
            streams=streams,
            freshness=freshness(self._probe),
            compactions=tuple(log.compactions[-1] for log in self._logs if log.compactions),
            cursor=self._probe.newest,
            restarts=self._platform.restarts,
        )

    def _folder(self, table: str) -> Path:
        database, name = table.split(".")
        return local_path(self._catalog.uri_of(self._catalog.definition(database, name)))
