"""Columns that a table does not have and its policy drops: which, and of how many rows."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Dropped"]

# Names are a stranger's: neither many nor long ones are kept.
_NAMES_MAX = 20
_NAME_LENGTH_MAX = 100
_OTHERS = "…"


class Dropped:
    """Counts rows by the name of a dropped column; names beyond the first 20 are counted as `…`."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    @property
    def values(self) -> int:
        """How many values were left out, of all columns together."""
        return sum(self.rows.values())

    def add(self, names: Iterable[str], rows: int = 1) -> None:
        """Count `rows` for each of `names`."""
        for name in names:
            short = name[:_NAME_LENGTH_MAX].encode(errors="backslashreplace").decode()
            if short not in self.rows and len(self.rows) >= _NAMES_MAX:
                short = _OTHERS
            self.rows[short] = self.rows.get(short, 0) + rows

    def merge(self, other: Dropped) -> None:
        """Count what `other` has counted."""
        for name, rows in other.rows.items():
            self.add([name], rows)
