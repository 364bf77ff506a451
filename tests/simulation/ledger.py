"""Who was promised what: the rows that were sent, and what their senders were told.

A commit is judged by its transaction: one of a stream's writer holds exactly the envelopes between
its position and the one before, one of a job exactly the rows of that job's version. Rows without a
transaction are those of one attempt, whole, at most once, and never after its caller was told that
nothing was stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import pyarrow as pa
from tests.simulation.rows import site_of
from tests.simulation.world import Violation

__all__ = ["Attempt", "Ledger", "Told"]


class Told(Enum):
    """What the caller of an append knows about it."""

    NOTHING = "nothing"
    """It runs, its process died, or the outcome is unknown."""
    STORED = "stored"
    NOT_STORED = "not stored"


@dataclass(slots=True)
class Attempt:
    """One append without a transaction."""

    ids: tuple[int, ...]
    told: Told = Told.NOTHING
    committed: bool = False


@dataclass(slots=True)
class Ledger:
    """See the module."""

    envelopes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    """By app id of the topic's writer: the rows at positions 1, 2, …"""
    jobs: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    """By app id and version: the rows that this version stands for."""
    purges: dict[tuple[str, int], frozenset[int]] = field(default_factory=dict)
    """By app id and version: the rows that this version deletes, if they are there."""
    deleted: set[int] = field(default_factory=set)
    """Rows that were in the table, and that a purge has deleted."""
    attempts: dict[int, Attempt] = field(default_factory=dict)
    """By the first of its rows."""
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    """Transactions of jobs that were told to be stored."""

    def queued(self, app_id: str, position: int, payload: bytes) -> None:
        """The queue of the writer `app_id` holds `payload` at `position`."""
        rows = pa.ipc.open_stream(payload).read_all()["id"].to_pylist()
        known = self.envelopes[app_id]
        if position == len(known) + 1:
            known.append(tuple(rows))
        elif known[position - 1] != tuple(rows):
            raise Violation(f"Position {position} of the queue has other rows than before: {rows}.")

    def attempt(self, ids: list[int]) -> Attempt:
        found = self.attempts[ids[0]] = Attempt(tuple(ids))
        return found

    def tell(self, attempt: Attempt, told: Told) -> None:
        """Its caller was told: must be true, and stay so."""
        attempt.told = told
        if attempt.committed != (told is Told.STORED):
            raise Violation(f"The caller of {attempt.ids} was told: {told.value}. It is not so.")

    def judge(
        self,
        who: str,
        added: dict[str, list[int]],
        txns: dict[str, tuple[int | None, int]],
    ) -> None:
        """Judge a commit that adds rows, by its rows per partition and its transactions."""
        ids = sorted(number for rows in added.values() for number in rows)
        expected = self._expected(who, ids, txns)
        for site in {*added, *map(site_of, expected)}:
            wanted = [number for number in expected if site_of(number) == site]
            if added.get(site, []) != wanted:
                raise Violation(f"{who} adds {added.get(site, [])} to {site}; due is {wanted}.")

    def judge_purge(
        self,
        who: str,
        partitions: dict[str, tuple[list[int], list[int]]],
        txns: dict[str, tuple[int | None, int]],
    ) -> None:
        """Judge a commit that removes rows, by the rows per partition before and after it."""
        asked = next((self.purges.get((a, v)) for a, (_, v) in txns.items()), None)
        if asked is None:
            raise Violation(f"{who} removes rows, and nobody asked for it: {partitions}.")
        for site, (before, after) in partitions.items():
            wanted = [number for number in before if number not in asked]
            if after != wanted:
                raise Violation(f"{who} leaves {after} in {site}; due is {wanted}.")
            self.deleted |= asked & set(before)

    def committed(self, txns: dict[str, int]) -> set[int]:
        """Every row that the newest version, with these transactions, must hold."""
        rows: set[int] = set()
        for app_id, version in txns.items():
            for envelope in self.envelopes.get(app_id, [])[:version]:
                rows.update(envelope)
        for (app_id, version), ids in self.jobs.items():
            if version <= txns.get(app_id, -1):
                rows.update(ids)
        for attempt in self.attempts.values():
            if attempt.committed:
                rows.update(attempt.ids)
        return rows - self.deleted

    def _expected(
        self, who: str, ids: list[int], txns: dict[str, tuple[int | None, int]]
    ) -> list[int]:
        if not txns:
            return self._attempted(who, ids)
        if len(txns) > 1:
            raise Violation(f"{who} has several transactions: {txns}.")
        [(app_id, (before, version))] = txns.items()
        if app_id in self.envelopes:
            positions = self.envelopes[app_id][before or 0 : version]
            return [number for envelope in positions for number in envelope]
        if (app_id, version) in self.purges:
            return []  # It found none of its rows.
        job = self.jobs.get((app_id, version))
        if job is None:
            raise Violation(f"{who} has a transaction that nobody asked for: {txns}.")
        return list(job)

    def _attempted(self, who: str, ids: list[int]) -> list[int]:
        attempt = self.attempts.get(ids[0]) if ids else None
        if attempt is None:
            raise Violation(f"{who} adds {ids} without a transaction: nobody asked for it.")
        if attempt.committed:
            raise Violation(f"{who} adds {ids} a second time.")
        if attempt.told is Told.NOT_STORED:
            raise Violation(f"{who} adds {ids}, of which its caller was told: nothing is stored.")
        attempt.committed = True
        return list(attempt.ids)
