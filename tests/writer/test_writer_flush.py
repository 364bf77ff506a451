"""When the writer commits, as a pure decision."""

from __future__ import annotations

import pytest

from neuralake.settings import WriterSettings
from neuralake.tables import Stream
from neuralake.writer import FlushLimits, is_due

LIMITS = FlushLimits(age_ms_max=100, rows_max=1000, bytes_max=10_000)


@pytest.mark.parametrize(
    ("rows", "payload_bytes", "since_commit_s", "due"),
    [
        (0, 0, 999.0, False),  # Nothing waits.
        (1, 10, 0.099, False),  # A busy table keeps its pace.
        (1, 10, 0.1, True),  # The age bound.
        (1, 10, float("inf"), True),  # A quiet table commits its first row at once.
        (999, 9_999, 0.0, False),
        (1000, 10, 0.0, True),
        (1, 10_000, 0.0, True),
    ],
)
def test_a_commit_is_due_by_age_rows_or_bytes(
    rows: int, payload_bytes: int, since_commit_s: float, due: bool
) -> None:
    found = is_due(LIMITS, rows=rows, payload_bytes=payload_bytes, since_commit_s=since_commit_s)
    assert found is due


def test_a_tables_own_limits_win_over_the_lakes() -> None:
    limits = FlushLimits.of(Stream(flush_ms_max=7), WriterSettings(flush_rows_max=5))

    assert (limits.age_ms_max, limits.rows_max) == (7, 5)
