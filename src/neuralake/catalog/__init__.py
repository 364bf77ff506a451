"""Find tables by name: databases of definitions, and frames over them. Looking up does no I/O."""

from neuralake.catalog.catalog import Catalog
from neuralake.catalog.database import Database, ModuleDatabase
from neuralake.catalog.load import load_catalog

__all__ = ["Catalog", "Database", "ModuleDatabase", "load_catalog"]
