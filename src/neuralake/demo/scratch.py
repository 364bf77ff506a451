"""The demo's lake: a folder with settings, the Parquet tables, and nothing else yet."""

from __future__ import annotations

from pathlib import Path

from neuralake.demo.flights import read_airlines, read_planes
from neuralake.settings import FILE_NAME, Settings, load_settings

__all__ = ["make_lake"]

# A cadence at which compaction shows within half a minute; a real lake has 60 s and an hour.
_SETTINGS = """\
# Written by `neuralake demo`. The definitions are in the package, in neuralake/demo/tables.
[lake]
root = "lake"
catalog = "neuralake.demo.tables.lake:catalog"

[server]
port = 0

[compact]
interval_s = 8
files_min = 4

[checkpoint]
interval_s = 2

[vacuum]
interval_s = 20

[site]
title = "Data catalog of the neuralake demo"
"""


def make_lake(folder: Path) -> Settings:
    """Make the lake in `folder`, and return its settings.

    Raises:
        MissingExtra: the flights are not installed; nothing was written.
    """
    planes, airlines = read_planes(), read_airlines()
    air = folder / "lake" / "air"
    air.mkdir(parents=True, exist_ok=True)
    planes.write_parquet(air / "planes.parquet")
    airlines.write_parquet(air / "airlines.parquet")
    (folder / FILE_NAME).write_text(_SETTINGS, encoding="utf-8")
    return load_settings(folder / FILE_NAME)
