"""Of several processes that put one log entry, exactly one wins, on real servers as in memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from service_children import racer
from service_table import ServiceTable

from neuralake.delta.log import entry_name

RACERS, ROUNDS = 6, 40


def test_of_several_processes_exactly_one_puts_an_entry(
    table: ServiceTable, tmp_path: Path
) -> None:
    names = [f"racer{number}" for number in range(RACERS)]
    with ExitStack() as stack:
        racers = [stack.enter_context(racer(table, name, tmp_path)) for name in names]
        assert {one.answer() for one in racers} == {"ready"}
        for version in range(ROUNDS):
            for one in racers:
                one.ask(entry_name(version))
            outcomes = [one.answer() for one in racers]

            assert sorted(outcomes) == ["lost"] * (RACERS - 1) + ["won"]
            winner = names[outcomes.index("won")]
            assert table.store().read(entry_name(version)) == winner.encode()
