"""Maintenance meets every table of the catalog, and changes no rows."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from neuralake import delta
from neuralake.catalog import Catalog, Database
from neuralake.clock import ManualClock
from neuralake.maintain import checkpoint_all, compact_all, run_compaction, vacuum_all
from neuralake.settings import (
    CheckpointSettings,
    CompactSettings,
    LakeSettings,
    Settings,
    VacuumSettings,
)
from neuralake.tables import DeltaTable
from neuralake.telemetry import Telemetry

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string())])


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    tables = {
        name: DeltaTable(name=name, uri=f"lab/{name}", schema=SCHEMA, partition_by=["site"])
        for name in ("events", "notes", "unwritten")
    }
    settings = Settings(
        folder=str(tmp_path),
        lake=LakeSettings(root="lake"),
        compact=CompactSettings(interval_s=60, files_min=2),
        checkpoint=CheckpointSettings(commits=5, interval_s=5),
        vacuum=VacuumSettings(retention_hours=1),
    )
    catalog = Catalog({"lab": Database(tables)}, settings=settings)
    for name in ("events", "notes"):
        fill(str(tmp_path / "lake" / "lab" / name), commits=6)
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
    assert sum(v for k, v in telemetry.snapshot().items() if k.startswith("maintain_errors")) == 1


def test_the_loop_checks_often_and_compacts_on_its_cadence(catalog: Catalog) -> None:
    """Two minutes of the loop in no time: the clock is turned by the loop's own waiting."""

    class EndingClock(ManualClock):
        def wait_s(self, seconds: float, stop: threading.Event) -> bool:
            if self.now_s() > 1_700_000_000 + 130:
                stop.set()
            return super().wait_s(seconds, stop)

    telemetry = Telemetry()
    run_compaction(catalog, stop=threading.Event(), clock=EndingClock(), telemetry=telemetry)

    assert telemetry.counter("compact_files_added", table="lab.events") == 2
    frame = pl.scan_delta(catalog.uri_of(catalog.definition("lab", "events")))
    assert frame.select(pl.len()).collect().item() == 12
