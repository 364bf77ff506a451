"""One run: a seed decides who works on the table and what goes wrong; then all must be well.

When everybody has done their rounds, the trouble ends, and one last round by fresh processes must
succeed without a single error: the table is never left in a state that only a person can mend.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass

from tests.simulation.actors import Appender, Compactor, Job, Sender, Vacuum, checkpoints, writer
from tests.simulation.lake import TOPIC, Lake
from tests.simulation.reader import LiveReader, check_snapshot, reader
from tests.simulation.world import Process, Violation, World, determined

from neuralake import delta

__all__ = ["Outcome", "simulate"]

_LAST_ROUNDS_MAX = 200
_VERSIONS_READ_MAX = 5
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
    """Employ a crew; each of them is there in some runs and not in others, most in several."""
    chance = lake.world.random
    world = lake.world
    lake.weather, weather = lake.weather.calm(), lake.weather
    world.start("first", lambda process: lake.create(lake.store(process), process))
    world.run()
    lake.weather = weather
    senders = [Sender(maker) for maker in range(1, 1 + chance.randint(1, 2))]
    lake.senders = senders
    rounds = chance.choice((3, 6, 12))
    for sender in senders:
        lake.employ(f"sender-{sender.maker}", sender, rounds=rounds)
    for number in range(chance.choice((1, 1, 2, 3))):
        lake.employ(f"writer-{number}", writer, rounds=2 * rounds)
    for maker in range(11, 11 + chance.randint(0, 2)):
        for rival in range(chance.choice((1, 2))):
            lake.employ(f"job-{maker}-{rival}", Job(maker), rounds=rounds)
    for maker in range(21, 21 + chance.randint(0, 2)):
        lake.employ(f"appender-{maker}", Appender(maker), rounds=rounds)
    for number in range(chance.choice((0, 1, 1, 2))):
        compactor = Compactor(chance.choice((3_000, 20_000, 1_000_000)), chance.random() < 0.5)
        lake.employ(f"compactor-{number}", compactor, rounds=rounds)
    for number in range(chance.choice((0, 1, 2))):
        vacuum = Vacuum(full=chance.random() < 0.7)
        lake.employ(f"vacuum-{number}", vacuum, rounds=rounds // 2)
    for number in range(chance.choice((0, 0, 0))):
        lake.employ(f"checkpoint-{number}", checkpoints, rounds=rounds // 2)
    for number in range(chance.randint(1, 2)):
        lake.employ(f"reader-{number}", reader, rounds=rounds // 2)
    lake.employ("live", LiveReader(senders), rounds=rounds // 2)


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
    if missing := sent - set(found):
        raise Violation(f"Acknowledged by the queue, and not in the table: {sorted(missing)}.")
