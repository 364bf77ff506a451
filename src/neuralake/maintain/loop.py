"""Keep every Delta table of a catalog quick to read: compaction, checkpoints, vacuum.

Each is a pass over the tables on its own cadence. A table that fails is logged and met again in
the next pass; nothing here changes a table's rows, and none of it is needed for them to be safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeuralakeError
from neuralake.queue.topic import topic_of
from neuralake.storage import is_local
from neuralake.tables import DeltaTable
from neuralake.telemetry import Telemetry

__all__ = ["checkpoint_all", "compact_all", "run_compaction", "run_vacuum", "vacuum_all"]

_log = logging.getLogger(__name__)


def compact_all(
    catalog: Catalog, *, clock: Clock | None = None, telemetry: Telemetry | None = None
) -> dict[str, delta.CompactResult]:
    """Rewrite the small files of every table once; the results by `database.table`."""
    settings, results = catalog.settings.compact, {}
    telemetry = telemetry or Telemetry()

    def compact(name: str, uri: str) -> None:
        result = delta.compact_once(
            uri,
            target_bytes=settings.target_bytes,
            files_min=settings.files_min,
            clock=clock or SystemClock(),
        )
        results[name] = result
        telemetry.count("compact_files_removed", result.files_removed, table=name)
        telemetry.count("compact_files_added", result.files_added, table=name)
        telemetry.count("compact_conflicts", result.conflicts, table=name)

    _for_each_table(catalog, compact, telemetry)
    return results


def checkpoint_all(catalog: Catalog, *, telemetry: Telemetry | None = None) -> dict[str, int]:
    """Write a checkpoint where enough commits have passed; versions by `database.table`."""
    written = {}

    def checkpoint(name: str, uri: str) -> None:
        version = delta.checkpoint_if_due(uri, commits=catalog.settings.checkpoint.commits)
        if version is not None:
            written[name] = version

    _for_each_table(catalog, checkpoint, telemetry or Telemetry())
    return written


def vacuum_all(
    catalog: Catalog, *, dry_run: bool = False, telemetry: Telemetry | None = None
) -> dict[str, list[str]]:
    """Remove files that no snapshot inside the retention needs; paths by `database.table`."""
    removed = {}
    hours = catalog.settings.vacuum.retention_hours

    def vacuum(name: str, uri: str) -> None:
        removed[name] = delta.vacuum(uri, retention_hours=hours, dry_run=dry_run)

    _for_each_table(catalog, vacuum, telemetry or Telemetry())
    return removed


def run_compaction(
    catalog: Catalog,
    *,
    stop: threading.Event,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> None:
    """Compact and write checkpoints, each on its cadence, until `stop` is set."""
    clock = clock or SystemClock()
    settings = catalog.settings
    compact_due_s = clock.monotonic_s() + settings.compact.interval_s
    while not clock.wait_s(min(settings.checkpoint.interval_s, settings.compact.interval_s), stop):
        checkpoint_all(catalog, telemetry=telemetry)
        if clock.monotonic_s() >= compact_due_s:
            compact_due_s = clock.monotonic_s() + settings.compact.interval_s
            compact_all(catalog, clock=clock, telemetry=telemetry)


def run_vacuum(
    catalog: Catalog,
    *,
    stop: threading.Event,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> None:
    """Vacuum on its cadence until `stop` is set."""
    clock = clock or SystemClock()
    while not clock.wait_s(catalog.settings.vacuum.interval_s, stop):
        vacuum_all(catalog, telemetry=telemetry)


def _for_each_table(
    catalog: Catalog, task: Callable[[str, str], None], telemetry: Telemetry
) -> None:
    for database, definition in catalog.definitions():
        if not isinstance(definition, DeltaTable):
            continue
        name, uri = topic_of(database, definition.name), catalog.uri_of(definition)
        if not is_local(uri) or not delta.exists(uri):
            continue  # Defined, but nothing was written yet; or a store that is not ours to keep.
        try:
            task(name, uri)
        except Exception as error:  # noqa: BLE001 the edge of a pass: one table never stops others
            telemetry.count("maintain_errors", table=name, kind=type(error).__name__)
            _log.error("%s: %s", name, error, exc_info=not isinstance(error, NeuralakeError))
