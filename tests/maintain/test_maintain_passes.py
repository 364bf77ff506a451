"""Maintenance meets every table of the catalog, and changes no rows."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from neuralake import delta
from neuralake.catalog import Catalog, Database
from neuralake.clock import ManualClock, SystemClock
from neuralake.maintain import checkpoint_all, compact_all, run_compaction, run_vacuum, vacuum_all
from neuralake.settings import (
    CheckpointSettings,
    CompactSettings,
    LakeSettings,
    Settings,
    VacuumSettings,
)
from neuralake.tables import REJECTED_SUFFIX, DeltaTable, Stream
from neuralake.telemetry import Telemetry

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string())])


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return lake(tmp_path)


def lake(
    folder: Path, *, compact_s: float = 60, checkpoint_s: float = 5, filled: bool = True
) -> Catalog:
    tables = {
        name: DeltaTable(name=name, uri=f"lab/{name}", schema=SCHEMA, partition_by=["site"])
        for name in ("events", "notes", "unwritten")
    }
    settings = Settings(
        folder=str(folder),
        lake=LakeSettings(root="lake"),
        compact=CompactSettings(interval_s=compact_s, files_min=2),
        checkpoint=CheckpointSettings(commits=5, interval_s=checkpoint_s),
        vacuum=VacuumSettings(retention_hours=1),
    )
    catalog = Catalog({"lab": Database(tables)}, settings=settings)
    for name in ("events", "notes") if filled else ():
        fill(str(folder / "lake" / "lab" / name), commits=6)
    return catalog


def fill(uri: str, *, commits: int) -> None:
    delta.create_table(uri, SCHEMA, partition_by=["site"])
    log = delta.TableLog.open(uri)
    for i in range(commits):
        log.append(pa.table({"id": [2 * i, 2 * i + 1], "site": ["a", "b"]}, schema=SCHEMA))


def ids(catalog: Catalog, name: str) -> list[int]:
    frame = catalog.db("lab").table(name).collect()
    return sorted(frame["id"].to_list())


def test_compaction_leaves_one_file_a_partition_and_every_row(catalog: Catalog) -> None:
    results = compact_all(catalog)

    assert set(results) == {"lab.events", "lab.notes"}
    assert results["lab.events"].files_removed == 12
    assert results["lab.events"].files_added == 2
    assert ids(catalog, "events") == list(range(12))


def test_a_checkpoint_is_written_when_enough_commits_have_passed(catalog: Catalog) -> None:
    assert set(checkpoint_all(catalog)) == {"lab.events", "lab.notes"}
    assert checkpoint_all(catalog) == {}
    assert ids(catalog, "events") == list(range(12))


def test_vacuum_keeps_what_a_snapshot_inside_the_retention_needs(catalog: Catalog) -> None:
    compact_all(catalog)

    assert {name: result.count for name, result in vacuum_all(catalog).items()} == {
        "lab.events": 0,
        "lab.notes": 0,
    }
    assert ids(catalog, "notes") == list(range(12))


def test_a_broken_table_is_counted_and_does_not_stop_the_others(
    catalog: Catalog, tmp_path: Path
) -> None:
    log = tmp_path / "lake" / "lab" / "events" / "_delta_log" / f"{3:020}.json"
    log.write_text("this is no log entry")
    telemetry = Telemetry()

    results = compact_all(catalog, telemetry=telemetry)

    assert set(results) == {"lab.notes"}
    assert telemetry.counter("maintain_errors") == 1


def test_the_loop_checks_often_and_compacts_on_its_cadence(catalog: Catalog) -> None:
    """Two minutes of the loop in no time: the clock is turned by the loop's own waiting."""
    telemetry = Telemetry()
    run_compaction(catalog, stop=threading.Event(), clock=EndingClock(130), telemetry=telemetry)

    assert telemetry.counter("compact_files_added", table="lab.events") == 2
    frame = pl.scan_delta(catalog.uri_of(catalog.definition("lab", "events")))
    assert frame.select(pl.len()).collect().item() == 12


class EndingClock(ManualClock):
    """Sets `stop` after so many seconds of the loop's own waiting."""

    def __init__(self, seconds: float, *, now_s: float = 1_700_000_000.0) -> None:
        super().__init__(now_s)
        self._end_s = self.now_s() + seconds

    def wait_s(self, seconds: float, stop: threading.Event) -> bool:
        if self.now_s() >= self._end_s:
            stop.set()
        return super().wait_s(seconds, stop)


def test_a_broken_table_is_tried_less_and_less_often(tmp_path: Path) -> None:
    lake(tmp_path)
    log = tmp_path / "lake" / "lab" / "events" / "_delta_log" / f"{3:020}.json"
    log.write_text("this is no log entry")
    telemetry = Telemetry()
    # Only compaction's own failures are counted here.
    broken = lake(tmp_path, compact_s=1, checkpoint_s=1e6, filled=False)
    run_compaction(broken, stop=threading.Event(), clock=EndingClock(100), telemetry=telemetry)

    errors = telemetry.counter("maintain_errors")
    assert 3 <= errors <= 8, "after 2, 4, 8, 16, 32 and 64 seconds"
    assert telemetry.counter("compact_files_added", table="lab.notes") == 2


def test_two_maintenance_processes_do_the_work_once(catalog: Catalog) -> None:
    """One holds the leases of its tables between its rounds; the other leaves them to it."""
    stop, clock, telemetry = threading.Event(), ManualClock(), Telemetry()
    others: list[delta.CompactResult] = []

    class Meanwhile(EndingClock):
        def wait_s(self, seconds: float, stop: threading.Event) -> bool:
            if telemetry.counter("compact_files_added", table="lab.events"):
                fill(catalog.uri_of(catalog.definition("lab", "events")), commits=6)
                others.extend(compact_all(catalog, clock=self).values())
                stop.set()
            return super().wait_s(seconds, stop)

    run_compaction(catalog, stop=stop, clock=Meanwhile(200), telemetry=telemetry)
    assert others[0].is_elsewhere
    assert compact_all(catalog, clock=clock)["lab.events"].files_removed == 14


def test_vacuum_and_log_clean_up_run_on_their_cadence(catalog: Catalog) -> None:
    compact_all(catalog)
    clock = EndingClock(3 * 3600, now_s=SystemClock().now_s())
    telemetry = Telemetry()
    run_vacuum(catalog, stop=threading.Event(), clock=clock, telemetry=telemetry)

    assert telemetry.counter("vacuum_files_removed", table="lab.events") == 12
    assert ids(catalog, "events") == list(range(12))


def test_tables_of_dead_letters_are_kept_quick_to_read_too(tmp_path: Path) -> None:
    """They are not in the catalog, but beside its streams; each bad request adds a file."""
    events = DeltaTable("events", "lab/events", SCHEMA, partition_by=["site"], stream=Stream())
    catalog = Catalog({"lab": [events]}, lake(tmp_path).settings)
    uri = catalog.uri_of(events) + REJECTED_SUFFIX
    fill(uri, commits=12)
    telemetry = Telemetry()

    run_compaction(catalog, stop=threading.Event(), clock=EndingClock(130), telemetry=telemetry)

    assert telemetry.counter("compact_files_added", table="lab.events_rejected") == 2
    assert len(delta.snapshot(uri).files) == 2
    assert set(vacuum_all(catalog)) == {"lab.events", "lab.events_rejected"}
