"""What a batch write did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BatchResult"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch write did to the table."""

    version: int
    """The version of the table that holds the result: a new one, or the newest seen if there was
    nothing to do."""
    repeated: bool = False
    """The job's `app_id` and `version` are in the table already: nothing was changed, and the
    counts are zero."""
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    rows_copied: int = 0
    """Rows that were written again unchanged, because they share a file with changed ones."""
    files_added: int = 0
    files_removed: int = 0
