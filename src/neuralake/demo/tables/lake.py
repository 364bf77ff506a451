"""The demo's catalog: `neuralake.demo.tables.lake:catalog` in its settings."""

from __future__ import annotations

import neuralake as nl
from neuralake.demo.tables import air, neural

__all__ = ["catalog"]

catalog = nl.Catalog({"air": nl.ModuleDatabase(air), "neural": nl.ModuleDatabase(neural)})
