"""Opening a table beside a busy writer."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa

from neuralake import delta

SCHEMA = pa.schema([("id", pa.int64())])


def test_a_table_opens_while_its_log_grows_as_fast_as_it_can(tmp_path: Path) -> None:
    """A folder's listing may miss an entry that is there; delta-rs alone fails 1 to 10 in 400."""
    uri = str(tmp_path / "events")
    delta.create_table(uri, SCHEMA)
    log, row = delta.TableLog.open(uri), pa.table({"id": [1]}, schema=SCHEMA)

    def append() -> None:
        for _ in range(300):
            log.append(row)

    writer = threading.Thread(target=append)
    writer.start()
    versions = []
    while writer.is_alive():
        versions.append(delta.snapshot(uri).version)
    writer.join()

    assert versions == sorted(versions)
