"""Who works on the table in one run: drawn from the seed, so that runs differ in kind.

In some everybody is there at once; in others one writer is alone with a vacuum, and what it commits
after a long sleep meets nobody who would get in its way.
"""

from __future__ import annotations

from tests.simulation.actors import (
    Appender,
    Compactor,
    Job,
    Maintenance,
    Purge,
    Sender,
    Vacuum,
    writer,
)
from tests.simulation.lake import Lake
from tests.simulation.reader import LiveReader, reader

__all__ = ["employ_crew"]


def employ_crew(lake: Lake) -> None:
    """Let everybody begin; the senders stay known to the lake."""
    chance = lake.world.random
    rounds = chance.choice((2, 4, 8))
    few = max(2, rounds // 2)
    is_crowd = chance.random() < 0.6

    def many(*counts: int) -> range:
        """So many of a kind in a crowd; else few, and often none."""
        return range(chance.choice(counts if is_crowd else (0, 0, 1)))

    for number in many(1, 1, 2):
        sender = Sender(1 + number)
        lake.senders.append(sender)
        lake.employ(f"sender-{number}", sender, rounds=rounds)
    for number in many(1, 2, 3) if lake.senders else ():
        lake.employ(f"writer-{number}", writer, rounds=2 * rounds)
    for number in many(0, 1, 2):
        for rival in range(chance.choice((1, 2))):
            lake.employ(f"job-{number}-{rival}", Job(11 + number), rounds=rounds)
    for number in many(0, 1, 2):
        lake.employ(f"appender-{number}", Appender(21 + number), rounds=rounds)
    for number in many(0, 0, 1, 2):
        lake.employ(f"purge-{number}", Purge(31 + number), rounds=few)
    target_bytes, is_kept = chance.choice((3_000, 20_000, 1_000_000)), chance.random() < 0.5
    lease_s = chance.choice((lake.weather.latency_s, 60.0))
    for number in many(0, 1, 2):
        compactor = Compactor(target_bytes, is_kept, lease_s)
        lake.employ(f"compactor-{number}", compactor, rounds=rounds)
    for number in many(0, 1, 2):
        lake.employ(f"vacuum-{number}", Vacuum(full=chance.random() < 0.7), rounds=2 * rounds)
    commits = chance.choice((1, 3, 10))
    for number in many(0, 1, 2):
        lake.employ(f"maintenance-{number}", Maintenance(commits), rounds=few)
    for number in many(1, 2):
        lake.employ(f"reader-{number}", reader, rounds=few)
    if lake.senders:
        lake.employ("live", LiveReader(lake.senders), rounds=few)
