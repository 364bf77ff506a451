"""One site, built once: every kind of table, and a database full of hostile text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from html_document import Document, parse
from site_lake import NOW_S, fill, make_catalog

from neuralake.clock import ManualClock
from neuralake.manifest import Manifest, describe, from_json
from neuralake.site import SiteReport, write_site


@dataclass
class Site:
    folder: Path
    report: SiteReport

    @cached_property
    def pages(self) -> dict[str, Document]:
        """Every page, parsed, by its name relative to the folder."""
        return {
            file.relative_to(self.folder).as_posix(): parse(file.read_text(encoding="utf-8"))
            for file in sorted(self.folder.rglob("*.html"))
        }

    @property
    def manifest(self) -> Manifest:
        return from_json((self.folder / "manifest.json").read_bytes())


def build(folder: Path, site: Path, *, hostile: bool = True) -> Site:
    clock = ManualClock(NOW_S + 600)
    report = write_site(describe(make_catalog(folder, hostile=hostile), clock=clock), site)
    return Site(site, report)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    fill(folder)
    return folder


@pytest.fixture(scope="session")
def site(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build(lake, tmp_path_factory.mktemp("site") / "out")


@pytest.fixture(scope="session")
def friendly(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build(lake, tmp_path_factory.mktemp("friendly") / "out", hostile=False)
