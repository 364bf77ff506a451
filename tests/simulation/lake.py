"""The one table of a run with everything round it, and how a process gets at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.fault_locks import FaultLocks
from tests.simulation.fault_queue import FaultQueue
from tests.simulation.fault_store import FaultStore
from tests.simulation.history import Ages, History
from tests.simulation.ledger import Ledger
from tests.simulation.rows import PARTITION_BY, SCHEMA
from tests.simulation.watched_store import WatchedStore
from tests.simulation.weather import Weather, spread
from tests.simulation.world import Crash, Process, World

from neuralake import delta
from neuralake.errors import Conflict, Unavailable
from neuralake.queue import MemoryQueue
from neuralake.queue.topic import app_id
from neuralake.storage import LogStore, MemoryStore
from neuralake.storage.coordinated import CoordinatedStore
from neuralake.storage.locks import MemoryLocks

if TYPE_CHECKING:
    from tests.simulation.actors import Sender

__all__ = ["TOPIC", "Actor", "Lake", "Round"]

TOPIC = "lab.events"
_DAY_S = 86_400.0
_FOREVER_S = 1e9

Round = Callable[[], None]
"""One round of an actor's work; `Unavailable` and `Conflict` are for its next round to get over."""
Actor = Callable[["Lake", Process], Round]
"""Opens what an actor needs and gives its rounds; called anew when its process died."""


@dataclass(slots=True)
class _Left:
    """What is left to do for an actor, whichever of its processes does it."""

    rounds: int
    lives: int = 0


class Lake:
    """See the module. `weather` is that of all processes, and may be changed between rounds."""

    def __init__(self, world: World, *, steps_max: int | None = None) -> None:
        chance = world.random
        self.world, self.steps_max = world, steps_max
        self.weather = Weather.draw(chance)
        self.ages = Ages(
            deleted_file_retention_s=chance.choice((1, 3)) * _DAY_S,
            log_retention_s=chance.choice((2, 5)) * _DAY_S,
            orphan_age_s=_DAY_S,
        )
        self.stamp_age_s_max = chance.choice((0.0, 10.0))
        self.files = MemoryStore("simulated", clock=_WorldClock(world))
        self.ledger = Ledger()
        self.locks = MemoryLocks() if chance.random() < 0.3 else None
        self.history = History(
            self.files,
            self.ledger,
            self.ages,
            lambda: world.now_s,
            by_locks=self.locks is not None,
        )
        # Senders here may sleep for days with a key in hand; the queue's promise for a day is
        # tested elsewhere.
        self.queue = MemoryQueue(clock=_WorldClock(world), keys_retention_s=_FOREVER_S)
        self.app_id = app_id(self.queue.id, TOPIC)
        self.ledger.envelopes[self.app_id] = []
        self.senders: list[Sender] = []
        self.properties = {
            "delta.deletedFileRetentionDuration": _interval(self.ages.deleted_file_retention_s),
            "delta.logRetentionDuration": _interval(self.ages.log_retention_s),
        }

    def store(self, process: Process) -> LogStore:
        """The table's store in the hands of `process`."""
        watched = WatchedStore(self.history, process.name, stamp_age_s_max=self.stamp_age_s_max)
        files = FaultStore(watched, process, self)
        if self.locks is None:
            return files
        return CoordinatedStore(files, FaultLocks(self.locks, process, self), clock=process.clock)

    def queue_of(self, process: Process) -> FaultQueue:
        return FaultQueue(self.queue, process, self)

    def create(self, store: LogStore, process: Process) -> None:
        """Make the table if it is not there."""
        delta.create_table(
            store,
            SCHEMA,
            partition_by=PARTITION_BY,
            properties=self.properties,
            clock=process.clock,
        )

    def counts(self) -> Counter[str]:
        """What the run was made of: versions, operations, kinds of trouble."""
        kinds = Counter(_kind(what) for _, _, what in self.world.trace)
        kinds["versions"] = len(self.history.versions)
        return kinds

    @property
    def is_closing(self) -> bool:
        """Whether the run was cut here: actors end, and nothing fails any more."""
        return self.steps_max is not None and len(self.world.trace) >= self.steps_max

    @property
    def trouble(self) -> Weather:
        """What the weather is like right now."""
        return self.weather.calm() if self.is_closing else self.weather

    def employ(self, name: str, actor: Actor, *, rounds: int) -> None:
        """Let `actor` work for so many rounds, in as many processes as it takes."""
        self._begin(name, actor, _Left(rounds), delay_s=spread(self.world.random, 0.01, 10.0))

    def _begin(self, name: str, actor: Actor, left: _Left, *, delay_s: float) -> None:
        left.lives += 1

        def live(process: Process) -> None:
            try:
                self._work(process, actor, left)
            except Crash:
                if left.rounds and not (self.world.is_over or self.is_closing):
                    again_s = spread(self.world.random, 0.1, self.weather.pace_s + 1.0)
                    self._begin(name, actor, left, delay_s=again_s)
                raise

        self.world.start(f"{name}.{left.lives}", live, delay_s=delay_s)

    def _work(self, process: Process, actor: Actor, left: _Left) -> None:
        chance, work = self.world.random, None
        while left.rounds and not self.is_closing:
            left.rounds -= 1
            try:
                if work is None:
                    work = actor(self, process)
                work()
            except (Unavailable, Conflict) as error:
                process.note(f"gives up this round: {type(error).__name__}: {error}")
                # A handle that has met trouble may be kept or not.
                work = work if chance.random() < 0.5 else None
            process.pause(self.weather.rest_s(chance))


class _WorldClock:
    """The time of the servers: exact."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_s(self) -> float:
        return self._world.now_s

    def monotonic_s(self) -> float:
        return self._world.now_s

    def wait_s(self, seconds: float, stop: object) -> bool:
        raise NotImplementedError("Servers do not wait.")


def _kind(what: str) -> str:
    for kind in ("CRASH", "on its way", "answer lost", "fails", "misses", "conflict", "repeated"):
        if kind in what:
            return kind
    return what.split()[0]


def _interval(seconds: float) -> str:
    return f"interval {int(seconds)} seconds"
