"""Our writers and compactors beside delta-rs on one table, agreeing the same way: no row is lost.

Mixing two ways loses rows without an error (field notes); what is held here is that one way, also
as somebody else implements it, does not.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from service_children import compactor, rival, writer
from service_table import SCHEMA, ServiceTable, rows_of

from neuralake.delta import create_table

OURS, THEIRS = 60, 40


def test_two_of_ours_and_two_rivals_append_and_every_row_is_there_once(
    table: ServiceTable, tmp_path: Path
) -> None:
    create_table(table.store(), SCHEMA, partition_by=["p"])
    with (
        writer(table, "w1", OURS, tmp_path) as w1,
        writer(table, "w2", OURS, tmp_path) as w2,
        rival(table, "r1", THEIRS, tmp_path) as r1,
        rival(table, "r2", THEIRS, tmp_path) as r2,
    ):
        for child in (w1, w2, r1, r2):
            child.end()

    assert rows_of(table) == expected(ours=["w1", "w2"], rivals=["r1", "r2"])


def test_two_compactors_beside_appenders_change_no_row(table: ServiceTable, tmp_path: Path) -> None:
    create_table(table.store(), SCHEMA, partition_by=["p"])
    stop = tmp_path / "stop"
    with (
        ExitStack() as compactors,
        writer(table, "w1", OURS, tmp_path) as ours,
        rival(table, "r1", THEIRS, tmp_path) as theirs,
    ):
        pair = [compactors.enter_context(compactor(table, stop, tmp_path)) for _ in range(2)]
        ours.end()
        theirs.end()
        stop.touch()
        rewritten = [int(one.end()[0].split()[0]) for one in pair]

    assert sum(rewritten) > 0, "the compactors had work"
    assert rows_of(table) == expected(ours=["w1"], rivals=["r1"])


def expected(*, ours: list[str], rivals: list[str]) -> Counter[tuple[str, int]]:
    rows = {(name, i): 1 for name in ours for i in range(2 * OURS)}
    return Counter(rows | {(name, i): 1 for name in rivals for i in range(THEIRS)})
