"""One run: a seed decides who works on the table and what goes wrong; then all must be well.

When everybody has done their rounds, the trouble ends, and one last round by fresh processes must
succeed without a single error: the table is never left in a state that only a person can mend.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass

from tests.simulation.actors import Appender, Compactor, Job, Maintenance, Vacuum, writer
from tests.simulation.crew import employ_crew
from tests.simulation.lake import TOPIC, Lake
from tests.simulation.reader import LiveReader, check_snapshot
from tests.simulation.world import Process, Violation, World, determined

from neuralake import delta

__all__ = ["Outcome", "simulate"]

_LAST_ROUNDS_MAX = 200
_VERSIONS_READ_MAX = 2
_LEASES_END_S = 3600.0
_ALL_IS_OLD_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `digest` stands for its whole trace."""

    seed: int
    failure: BaseException | None
    steps: int
    digest: str
    trace: list[str]
    counts: Counter[str]


def simulate(seed: int, *, steps_max: int | None = None) -> Outcome:
    """Run the simulation of `seed`; actors end after `steps_max` steps of the trace."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # Warnings of what is meant to happen.
    try:
        return _simulate(seed, steps_max)
    finally:
        logging.disable(disabled)


def _simulate(seed: int, steps_max: int | None) -> Outcome:
    with determined(seed):
        world = World(seed)
        lake = Lake(world, steps_max=steps_max)
        failure: BaseException | None = None
        try:
            _begin(lake)
            world.run()
            lake.weather = lake.weather.calm()
            world.start("last", lambda process: _last_round(lake, process))
            world.run()
        except Exception as error:
            failure = error
    trace = [str(step) for step in world.steps()]
    digest = hashlib.sha256("\n".join(trace).encode()).hexdigest()
    return Outcome(seed, failure, len(trace), digest, trace, lake.counts())


def _begin(lake: Lake) -> None:
    """Make the table in calm weather, and employ the crew."""
    lake.weather, weather = lake.weather.calm(), lake.weather
    lake.world.start("first", lambda process: lake.create(lake.store(process), process))
    lake.world.run()
    lake.weather = weather
    employ_crew(lake)


def _last_round(lake: Lake, process: Process) -> None:
    """Everything works again, at the first try, for whoever starts now."""
    write = writer(lake, process)
    for _ in range(_LAST_ROUNDS_MAX):
        write()
        process.pause(1.0)
        position = lake.history.newest.txns.get(lake.app_id, 0)
        if position == lake.queue.bounds(TOPIC).last:
            break
    else:
        raise Violation(
            f"The writer stays at {position}, the queue ends at {lake.queue.bounds(TOPIC)}"
        )
    process.pause(_LEASES_END_S)  # Those of the dead.
    Job(11)(lake, process)()
    Appender(29)(lake, process)()
    Compactor(1_000_000, keeps=False)(lake, process)()
    Maintenance(1)(lake, process)()
    LiveReader(lake.senders)(lake, process)()
    _check_versions(lake, process)
    _check_rows(lake)
    process.pause(_ALL_IS_OLD_S)
    Vacuum(full=True)(lake, process)()
    if idle := lake.history.idle_files():
        raise Violation(f"Vacuum leaves what nobody needs: {idle}.")
    _check_versions(lake, process)


def _check_versions(lake: Lake, process: Process) -> None:
    """Versions inside the retention read as they were: the oldest, and some others."""
    store = lake.store(process)
    readable = lake.history.readable_versions()
    some = lake.world.random.sample(readable, min(len(readable), _VERSIONS_READ_MAX))
    for version in [readable[0], *some]:
        check_snapshot(delta.snapshot(store, version), lake.history)


def _check_rows(lake: Lake) -> None:
    """The table has what it must have, and each row once."""
    newest = lake.history.newest
    found, due = Counter(newest.ids()), lake.ledger.committed(newest.txns)
    if found != Counter(due):
        raise Violation(f"Missing: {sorted(due - set(found))}; too many: {found - Counter(due)}.")
    sent = {number for sender in lake.senders for number in sender.acknowledged}
    if missing := sent - set(found) - lake.ledger.deleted:
        raise Violation(f"Acknowledged by the queue, and not in the table: {sorted(missing)}.")
