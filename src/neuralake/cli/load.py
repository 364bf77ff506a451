"""`neuralake ingest`: files into a stream table, through a running server."""

from __future__ import annotations

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    del app
