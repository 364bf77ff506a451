"""The catalog of the demo, written as a user would write one: a module is a database."""

from __future__ import annotations

__all__: list[str] = []
