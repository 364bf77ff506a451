"""A Delta table that another writer wrote: two sites, ten rows each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

SCHEMA = pa.schema([("site", pa.string()), ("n", pa.int32()), ("x", pa.float64())])


@pytest.fixture
def readings(tmp_path: Path) -> str:
    """URI of the table; its columns are `SCHEMA`, partitioned by site."""
    uri = str(tmp_path / "readings")
    rows = pa.table(
        [["a"] * 10 + ["b"] * 10, list(range(20)), [n / 2 for n in range(20)]], schema=SCHEMA
    )
    write_deltalake(uri, rows, partition_by=["site"])
    return uri
