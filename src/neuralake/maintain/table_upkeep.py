"""Compaction of one table in a loop: when to look at it again, after work, rest and trouble.

A table that is written to is looked at every `interval_s`, a quiet one up to eight times less
often, and one that fails is left alone for longer each time. Time comes in as an argument.
"""

from __future__ import annotations

from neuralake import delta

__all__ = ["TableUpkeep"]

_QUIET_FACTOR_MAX = 8
_TROUBLE_S_MAX = 300.0


class TableUpkeep:
    """A kept compactor, and when it is due."""

    def __init__(self, compactor: delta.Compactor, *, interval_s: float) -> None:
        self._compactor, self._interval_s = compactor, interval_s
        self._wait_s = interval_s
        self._due_s = 0.0
        self._version = -1

    def is_due(self, now_s: float) -> bool:
        return now_s >= self._due_s

    def run(self, now_s: float) -> delta.CompactResult:
        """One round.

        Raises what `Compactor.run_round` does; the table then rests.
        """
        failed_before = self._wait_s
        self._rest(min(_TROUBLE_S_MAX, 2 * max(failed_before, self._interval_s)), now_s)
        result = self._compactor.run_round()
        is_quiet = self._compactor.version == self._version
        self._version = self._compactor.version
        longest_s = _QUIET_FACTOR_MAX * self._interval_s
        wait_s = min(longest_s, 2 * failed_before) if is_quiet else self._interval_s
        self._rest(wait_s, now_s)
        return result

    def close(self) -> None:
        """Leave the table to others."""
        self._compactor.close()

    def _rest(self, wait_s: float, now_s: float) -> None:
        self._wait_s = wait_s
        self._due_s = now_s + wait_s
