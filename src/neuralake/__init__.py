"""neuralake: define a table once in Python; ingestion, Delta, frames, SQL and a site follow from it."""

__version__ = "0.1.0"
