"""Every fifth request fails, with and without its effect: nothing is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from gate_proxy import Request, Verdict, gate
from service_children import acks, writer
from service_table import SCHEMA, ServiceTable, rows_of

from neuralake.delta import create_table

NAMES = ("one", "two", "three")
COUNT = 25


class BadNetwork:
    """Cuts off or refuses requests by a seed, before or after the server has done them."""

    def __init__(self, seed: int, share: float) -> None:
        self._seed, self._share = random.Random(seed), share
        self.faults: Counter[Verdict] = Counter()

    def judge(self, request: Request) -> Verdict:
        # Each request is seen twice, and half of the faults come after it was done. A server that
        # says it is busy has not done it.
        if self._seed.random() > self._share / 2:
            return "pass"
        verdicts: list[Verdict] = ["cut", "500"] if request.is_answered else ["cut", "500", "503"]
        verdict = self._seed.choice(verdicts)
        self.faults[verdict] += 1
        return verdict


@pytest.mark.parametrize("seed", range(3))
def test_three_writers_over_a_bad_network_commit_every_row_once(
    table: ServiceTable, seed: int, tmp_path: Path
) -> None:
    create_table(table.store(), SCHEMA, partition_by=["p"])
    network = BadNetwork(seed, 0.2)
    with ExitStack() as stack:
        endpoints = {"s3": stack.enter_context(gate(table.account.s3_endpoint, network.judge))}
        if table.coordination == "dynamodb":
            lock_endpoint = table.account.dynamodb_endpoint
            endpoints["dynamodb"] = stack.enter_context(gate(lock_endpoint, network.judge))
        through = table.through(**endpoints)
        writers = [stack.enter_context(writer(through, name, COUNT, tmp_path)) for name in NAMES]
        for child in writers:
            child.end()

    assert set(network.faults) == {"cut", "500", "503"}
    assert all(acks(name, tmp_path) == [(0, list(range(COUNT)))] for name in NAMES)
    assert rows_of(table) == Counter({(name, i): 1 for name in NAMES for i in range(2 * COUNT)})
