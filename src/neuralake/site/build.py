"""Build the catalog site: describe, render, swap into place.

A table that cannot be described is a page with its reason and a line in the report; the build
goes on. A crash at any moment leaves whole pages whose links work (see `files`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.manifest import Manifest, describe
from neuralake.site.addresses import INDEX
from neuralake.site.files import swap
from neuralake.site.pages import render

__all__ = ["SiteReport", "build_site", "write_site"]


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What a build did. `problems` maps `database.table` to why it could not be described."""

    index: Path
    tables: int
    problems: dict[str, str]
    files: int
    written: int
    removed: int


def build_site(
    catalog: Catalog,
    folder: str | Path,
    *,
    clock: Clock | None = None,
    base_url: str | None = None,
) -> SiteReport:
    """Describe `catalog` and write its site into `folder`, which is made if it is not there.

    Args:
        base_url: the server's address in the examples; default: from the settings.

    Raises:
        UsageError: `folder` holds a file of the same name that no build made; nothing was written.
    """
    return write_site(describe(catalog, clock=clock or SystemClock(), base_url=base_url), folder)


def write_site(manifest: Manifest, folder: str | Path) -> SiteReport:
    """Write the site of `manifest` into `folder`; see `build_site`."""
    path = Path(folder).absolute()
    pages = render(manifest)
    swapped = swap(path, pages)
    tables = manifest.tables()
    problems = {f"{t.database}.{t.name}": t.problem for t in tables if t.problem}
    problems |= {d.name: d.problem for d in manifest.databases if d.problem}
    return SiteReport(
        index=path / INDEX,
        tables=len(tables),
        problems=problems,
        files=len(pages),
        written=len(swapped.written),
        removed=len(swapped.removed),
    )
