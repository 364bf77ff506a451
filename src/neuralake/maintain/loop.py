"""Keep every Delta table of a catalog quick to read: compaction, checkpoints, vacuum, log clean-up.

Each is a pass over the tables on its own cadence. A table that fails is logged and met again in a
later pass; nothing here changes a table's rows, and none of it is needed for them to be safe. Any
number of processes may do it at once: a lease per table and kind of work keeps them apart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterator

from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeuralakeError
from neuralake.maintain.table_upkeep import TableUpkeep
from neuralake.queue.topic import topic_of
from neuralake.storage import LogStore
from neuralake.tables import REJECTED_SUFFIX, REPLAYED_SUFFIX, DeltaTable
from neuralake.telemetry import Telemetry

__all__ = [
    "checkpoint_all",
    "clean_logs",
    "compact_all",
    "run_compaction",
    "run_vacuum",
    "vacuum_all",
]

_log = logging.getLogger(__name__)

# How often one looks whether a stream has dead letters by now: a request or two in an object store.
_LETTERS_S = 60.0


def compact_all(
    catalog: Catalog, *, clock: Clock | None = None, telemetry: Telemetry | None = None
) -> dict[str, delta.CompactResult]:
    """Rewrite the small files of every table once; the results by `database.table`."""
    results: dict[str, delta.CompactResult] = {}
    telemetry = telemetry or Telemetry()

    def compact(name: str, table: DeltaTable | None, store: LogStore) -> None:
        compactor = _compactor(catalog, table, store, clock or SystemClock())
        try:
            results[name] = compactor.run_round()
        finally:
            compactor.close()
        _count(telemetry, name, results[name])

    _for_each_table(catalog, compact, telemetry)
    return results


def checkpoint_all(
    catalog: Catalog, *, clock: Clock | None = None, telemetry: Telemetry | None = None
) -> dict[str, int]:
    """Write a checkpoint where enough commits have passed; versions by `database.table`."""
    return _checkpoint(catalog, clock, telemetry or Telemetry(), letters=True)


def _checkpoint(
    catalog: Catalog, clock: Clock | None, telemetry: Telemetry, *, letters: bool
) -> dict[str, int]:
    written = {}

    def checkpoint(name: str, _: DeltaTable | None, store: LogStore) -> None:
        commits = catalog.settings.checkpoint.commits
        version = delta.checkpoint_if_due(store, commits=commits, clock=clock)
        if version is not None:
            written[name] = version

    _for_each_table(catalog, checkpoint, telemetry, letters=letters)
    return written


def vacuum_all(
    catalog: Catalog,
    *,
    full: bool = False,
    dry_run: bool = False,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> dict[str, delta.VacuumResult]:
    """Remove files that no version inside the retention needs; results by `database.table`.

    `full` also lists the folders for files that no commit mentions.
    """
    results: dict[str, delta.VacuumResult] = {}
    settings = catalog.settings.vacuum
    telemetry = telemetry or Telemetry()

    def vacuum(name: str, _: DeltaTable | None, store: LogStore) -> None:
        result = delta.vacuum(
            store,
            retention_hours=settings.retention_hours,
            orphan_age_hours=settings.orphan_age_hours,
            full=full,
            dry_run=dry_run,
            clock=clock,
        )
        results[name] = result
        if not dry_run:
            telemetry.count("vacuum_files_removed", result.count, table=name)
            telemetry.count("vacuum_bytes_removed", result.bytes, table=name)

    _for_each_table(catalog, vacuum, telemetry)
    return results


def clean_logs(
    catalog: Catalog, *, clock: Clock | None = None, telemetry: Telemetry | None = None
) -> dict[str, delta.CleanupResult]:
    """Remove log entries that are older than their table's log retention; by `database.table`."""
    results: dict[str, delta.CleanupResult] = {}
    telemetry = telemetry or Telemetry()

    def clean(name: str, _: DeltaTable | None, store: LogStore) -> None:
        results[name] = delta.cleanup(store, clock=clock)
        telemetry.count("log_files_removed", len(results[name].names), table=name)

    _for_each_table(catalog, clean, telemetry)
    return results


def run_compaction(
    catalog: Catalog,
    *,
    stop: threading.Event,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> None:
    """Compact and write checkpoints, each on its cadence, until `stop` is set."""
    clock, telemetry = clock or SystemClock(), telemetry or Telemetry()
    settings, kept = catalog.settings, dict[str, TableUpkeep]()

    def compact(name: str, table: DeltaTable | None, store: LogStore) -> None:
        if name not in kept:
            compactor = _compactor(catalog, table, store, clock)
            kept[name] = TableUpkeep(compactor, interval_s=settings.compact.interval_s)
        if kept[name].is_due(clock.monotonic_s()):
            _count(telemetry, name, kept[name].run(clock.monotonic_s()))

    checkpoint_due_s = clock.monotonic_s() + settings.checkpoint.interval_s
    letters_due_s = clock.monotonic_s()
    try:
        while not clock.wait_s(
            min(settings.checkpoint.interval_s, settings.compact.interval_s), stop
        ):
            letters = clock.monotonic_s() >= letters_due_s
            if letters:
                letters_due_s = clock.monotonic_s() + _LETTERS_S
            _for_each_table(catalog, compact, telemetry, known=kept, letters=letters)
            if clock.monotonic_s() >= checkpoint_due_s:
                checkpoint_due_s = clock.monotonic_s() + settings.checkpoint.interval_s
                _checkpoint(catalog, clock, telemetry, letters=letters)
    finally:
        for upkeep in kept.values():
            upkeep.close()


def run_vacuum(
    catalog: Catalog,
    *,
    stop: threading.Event,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> None:
    """Vacuum and clean logs on one cadence until `stop` is set, vacuum in full on another."""
    clock, telemetry = clock or SystemClock(), telemetry or Telemetry()
    settings = catalog.settings.vacuum
    full_due_s = clock.monotonic_s() + settings.full_interval_s
    while not clock.wait_s(min(settings.interval_s, settings.full_interval_s), stop):
        full = clock.monotonic_s() >= full_due_s
        if full:
            full_due_s = clock.monotonic_s() + settings.full_interval_s
        vacuum_all(catalog, full=full, clock=clock, telemetry=telemetry)
        clean_logs(catalog, clock=clock, telemetry=telemetry)


def _compactor(
    catalog: Catalog, table: DeltaTable | None, store: LogStore, clock: Clock
) -> delta.Compactor:
    settings = catalog.settings.compact
    return delta.Compactor(
        store,
        target_bytes=settings.target_bytes,
        files_min=settings.files_min,
        # Not in the definition: what the table's property says, if it says something.
        cluster_by=(table.cluster_by if table else None) or None,
        write_s_max=catalog.settings.writer.write_s_max,
        clock=clock,
    )


def _count(telemetry: Telemetry, name: str, result: delta.CompactResult) -> None:
    telemetry.count("compact_files_removed", result.files_removed, table=name)
    telemetry.count("compact_files_added", result.files_added, table=name)
    telemetry.count("compact_bytes", result.bytes, table=name)
    telemetry.count("compact_conflicts", result.conflicts, table=name)


def _for_each_table(
    catalog: Catalog,
    task: Callable[[str, DeltaTable | None, LogStore], None],
    telemetry: Telemetry,
    *,
    known: Container[str] = (),
    letters: bool = True,
) -> None:
    """Run `task` for each table that is there, and its definition if it has one.

    Args:
        known: tables that are there, and are not asked.
        letters: look for tables of dead letters, too; of most streams they never come to be.
    """
    for name, suffix, definition in _places(catalog):
        if suffix and not letters and name not in known:
            continue
        try:
            store = catalog.store_at(catalog.uri_of(definition) + suffix)
            if name in known or delta.exists(store):  # Else defined, but nothing was written yet.
                task(name, None if suffix else definition, store)
        except Exception as error:  # noqa: BLE001 the edge of a pass: one table never stops others
            telemetry.count("maintain_errors", table=name, kind=type(error).__name__)
            _log.error("%s: %s", name, error, exc_info=not isinstance(error, NeuralakeError))


def _places(catalog: Catalog) -> Iterator[tuple[str, str, DeltaTable]]:
    """`(name, suffix, definition)` of the Delta tables, and of those that stand beside streams."""
    for database, definition in catalog.definitions():
        if not isinstance(definition, DeltaTable):
            continue
        name = topic_of(database, definition.name)
        yield name, "", definition
        if definition.is_stream:
            for suffix in (REJECTED_SUFFIX, REPLAYED_SUFFIX):
                yield name + suffix, suffix, definition
