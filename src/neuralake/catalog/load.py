"""Import the catalog that the settings name."""

from __future__ import annotations

import importlib
import sys

from neuralake.catalog.catalog import Catalog
from neuralake.errors import UsageError
from neuralake.settings import Settings

__all__ = ["load_catalog"]


def load_catalog(settings: Settings) -> Catalog:
    """The catalog at `settings.lake.catalog` (`module:attribute`), bound to `settings`."""
    module_name, _, attribute = settings.lake.catalog.partition(":")
    if settings.folder not in sys.path:
        sys.path.insert(0, settings.folder)
    importlib.invalidate_caches()
    found = getattr(importlib.import_module(module_name), attribute or "catalog", None)
    if not isinstance(found, Catalog):
        raise UsageError(f"{settings.lake.catalog!r} is no Catalog.")
    found._settings = settings
    return found
