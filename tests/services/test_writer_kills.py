"""Writers on a real S3 are killed with -9 again and again, and nothing is lost or doubled.

The kills are at seeded times. Some come while a process still opens the table.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

from service_children import acks, compactor, rival, writer
from service_table import SCHEMA, ServiceTable, rows_of

from neuralake.delta import create_table

NAMES = ("one", "two")
KILLS = 24
RIVALS = 16


def test_writers_that_are_killed_again_and_again_lose_and_double_nothing(
    table: ServiceTable, tmp_path: Path
) -> None:
    seed = random.Random(7)
    create_table(table.store(), SCHEMA, partition_by=["p"])
    kills = 0

    def came_to_work(name: str) -> bool:
        runs = acks(name, tmp_path)
        return sum(len(acked) for _, acked in runs) > len(runs)

    # A compactor that is killed as well, and writers that race with one another.
    while kills < KILLS or (kills < 4 * KILLS and not all(map(came_to_work, NAMES))):
        longer = 1 + kills // KILLS  # A busy machine.
        with (
            writer(table, NAMES[0], 10_000, tmp_path) as one,
            writer(table, NAMES[1], 10_000, tmp_path) as two,
            compactor(table, tmp_path / "never", tmp_path) as compacting,
        ):
            for child in seed.sample([one, two, compacting], 3):
                if seed.random() < 0.8:
                    assert child.answer() == "ready"
                assert child.is_killed_after(longer * seed.uniform(0.0, 0.8))
                kills += 1
    counts = [goal(name, tmp_path) for name in NAMES]
    for name, count in zip(NAMES, counts, strict=True):
        with writer(table, name, count, tmp_path) as last:
            last.end()

    for name in NAMES:
        runs = acks(name, tmp_path)
        assert came_to_work(name), "between kills"
        for (began, acked), (next_began, _) in pairwise(runs):
            # What was acknowledged is in the table when the next process begins; at most the one
            # commit of which the killed process did not learn is there beyond it.
            assert next_began - (began + len(acked)) in (0, 1)
    assert rows_of(table) == Counter(
        {(name, i): 1 for name, count in zip(NAMES, counts, strict=True) for i in range(2 * count)}
    )
    if table.coordination == "dynamodb":
        assert {item["complete"] for item in table.lock_items()} == {"true"}
    # And the other engine goes on from there.
    with rival(table, "rival", 1, tmp_path) as after:
        after.end()
    assert rows_of(table)["rival", 0] == 1


def test_rivals_that_are_killed_beside_our_writer_cost_no_row(
    table: ServiceTable, tmp_path: Path
) -> None:
    """Each leaves what it had begun to us: an item without an entry, an entry half announced."""
    seed = random.Random(11)
    create_table(table.store(), SCHEMA, partition_by=["p"])
    acknowledged: list[int] = []
    with writer(table, "ours", 10_000, tmp_path, flush_ms=100) as ours:
        assert ours.answer() == "ready"
        for number in range(4 * RIVALS):
            if number >= RIVALS and len(acknowledged) > RIVALS / 2:
                break
            # On a busy machine they need longer to come to work at all.
            longer = 1 + number // RIVALS
            with rival(table, "rival", 0, tmp_path, first=number * 1000) as child:
                assert child.answer() == "ready"
                assert child.is_killed_after(longer * seed.uniform(0.05, 0.6))
                acknowledged += [int(line) for line in child.printed()]
        assert ours.process.poll() is None, ours.errors()
    count = goal("ours", tmp_path)
    with writer(table, "ours", count, tmp_path) as last:
        last.end()

    rows = rows_of(table)
    assert max(rows.values()) == 1
    assert {i for name, i in rows if name == "ours"} == set(range(2 * count))
    assert {i for name, i in rows if name == "rival"} >= set(acknowledged)
    assert len(acknowledged) > RIVALS / 2, "they came to work between kills"


def goal(name: str, folder: Path) -> int:
    """A few transactions more than the killed processes could have committed."""
    return max([first + len(acked) for first, acked in acks(name, folder)], default=0) + 3
