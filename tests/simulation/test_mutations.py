"""The simulation bites: an engine that is broken in a known way fails within a few hundred seeds.

Each mutation takes one care out of the engine. Which seed finds it may change with the engine; that
one does, must not. What only saves work may be taken out, and all seeds pass.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from examples import examples
from tests.simulation.run import simulate

from neuralake.clock import Clock
from neuralake.delta.attempt import Attempt
from neuralake.delta.commit import TableLog
from neuralake.delta.head import Head
from neuralake.delta.lease import Lease
from neuralake.errors import Unavailable
from neuralake.storage import LogStore
from neuralake.storage.coordinated import CoordinatedStore

Mutation = Callable[[pytest.MonkeyPatch], None]

_SEEDS_MAX = 500

# By module: the package has functions of the same names.
_COMMIT, _COMPACTION, _VACUUM, _CLEANUP = (
    importlib.import_module(f"neuralake.delta.{name}")
    for name in ("commit", "compaction", "vacuum", "cleanup")
)


def an_unknown_outcome_is_taken_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    def look_up(_log: TableLog, asked: int, _attempt: Any) -> int | None:
        raise Unavailable(f"Version {asked} was not stored, probably.")

    patch.setattr(TableLog, "_look_up", look_up)


def a_store_that_fails_after_the_commit_takes_it_back(patch: pytest.MonkeyPatch) -> None:
    """What the first seeds found in the engine as it was."""
    patch.setattr(Head, "_mark_newest", Head._mark_place)


def transactions_are_not_looked_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TableLog, "_covers", lambda _log, _txn: False)


def nobody_minds_leases(patch: pytest.MonkeyPatch) -> None:
    def take(store: LogStore, purpose: str, *, clock: Clock, length_s: float = 60.0) -> Lease:
        return Lease(store, purpose, clock=clock, length_s=length_s, holder="everybody")

    patch.setattr(Lease, "take", take)
    for method in ("keep", "is_held"):
        patch.setattr(Lease, method, lambda _lease: True)
    patch.setattr(Lease, "release", lambda _lease: None)


def compaction_looks_at_no_other_commit(patch: pytest.MonkeyPatch) -> None:
    nobody_minds_leases(patch)
    patch.setattr(Attempt, "raise_conflict", lambda _attempt, _version: None)
    patch.setattr(_COMPACTION._Work, "_is_untouched", lambda _work, _packed: True)


def clocks_are_trusted(patch: pytest.MonkeyPatch) -> None:
    """Files get the time of their writer's clock, also if that is behind the newest file."""
    newest_ms = property(lambda _head: 0, lambda _head, _ms: None)
    patch.setattr(Head, "newest_ms", newest_ms, raising=False)


def old_files_are_committed(patch: pytest.MonkeyPatch) -> None:
    """Each of the two would do: a handle that slept reads anew, and then stores its rows anew."""
    patch.setattr(Head, "is_stale", lambda _head: False)
    patch.setattr(_COMMIT.Waiting, "age_s", lambda _waiting, _actions: 0.0)


def vacuum_puts_no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_VACUUM._Vacuum, "put_fence", lambda work: work._log.version)


def clean_up_forgets_the_retention(patch: pytest.MonkeyPatch) -> None:
    base = _CLEANUP._base
    patch.setattr(
        _CLEANUP, "_base", lambda store, files, **_before: base(store, files, before_s=float("inf"))
    )


def what_others_began_in_the_lock_table_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CoordinatedStore, "repair", lambda _store, _entry: None)


# Each with the seed that found it last, which is tried first: the ones before it take a minute. If
# the engine has changed so that another one does, write that one here.
MUTATIONS: dict[Mutation, int] = {
    an_unknown_outcome_is_taken_for_a_failure: 7,
    a_store_that_fails_after_the_commit_takes_it_back: 0,
    transactions_are_not_looked_up: 0,
    compaction_looks_at_no_other_commit: 117,
    clocks_are_trusted: 0,
    clean_up_forgets_the_retention: 0,
    what_others_began_in_the_lock_table_is_left: 7,
    old_files_are_committed: 205,
    vacuum_puts_no_fence: 155,
}


def first_failing_seed(seeds: Iterable[int]) -> int | None:
    return next((seed for seed in seeds if simulate(seed).failure is not None), None)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_broken_engine_is_found(mutate: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    assert first_failing_seed([MUTATIONS[mutate], *range(_SEEDS_MAX)]) is not None


def test_leases_only_save_work(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_minds_leases(monkeypatch)
    assert first_failing_seed(range(examples(20))) is None
