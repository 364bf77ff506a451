"""Tables of many small files and long logs, which compaction and checkpoints have not been at."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.delta import TableLog, create_table, snapshot
from neuralake.delta.checkpoint import checkpoint
from neuralake.serve.gateway import Gateway
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import DeltaTable

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])


def test_a_query_on_hundreds_of_commits_stays_within_its_memory(tmp_path: Path) -> None:
    """delta-rs would read each log entry and file in a thread and a megabyte of its own."""
    settings = Settings(folder=str(tmp_path), lake=LakeSettings(root=str(tmp_path / "lake")))
    catalog = Catalog({"lab": [DeltaTable("many", "many", SCHEMA)]}, settings)
    store = catalog.store_of(catalog.definition("lab", "many"))
    create_table(store, SCHEMA)
    log = TableLog.open(store)
    for number in range(600):
        log.append(pa.table({"name": ["x"], "number": [number]}, schema=SCHEMA))

    with Gateway(catalog, processes=1) as gateway:
        for _ in range(3):
            with gateway.query("SELECT count(*) AS n, sum(number) AS s FROM many", "json") as query:
                query.open()
                rows = msgspec.json.decode(b"".join(query.parts()))["rows"]
            assert rows == [[600, sum(range(600))]]


def test_entries_past_the_newest_checkpoint_are_counted(tmp_path: Path) -> None:
    store = str(tmp_path / "t")
    create_table(store, SCHEMA)
    log = TableLog.open(store)
    for number in range(130):
        log.append(pa.table({"name": ["x"], "number": [number]}, schema=SCHEMA))
    before = snapshot(store)

    assert before.entries_past_checkpoint == 131
    checkpoint(store)
    assert before.entries_past_checkpoint == 0
    assert snapshot(store).entries_past_checkpoint == 0
