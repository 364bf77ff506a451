"""How much one sender may ask for: a bucket of requests and one of rows, refilled all the time.

What a request costs in rows is known when it is stored, so rows may be overdrawn once; the next
request then waits until the debt is paid. Pure: time comes in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from neuralake.errors import QueueFull

__all__ = ["Rates"]

# Senders remembered; who was quiet for longest has a full bucket anyway.
_SENDERS_MAX = 4096
# A burst may take what comes in within this time.
_BURST_S = 2.0


@dataclass(slots=True)
class _Buckets:
    requests: float
    rows: float
    at_s: float


class Rates:
    """The buckets of all senders, by name. For one event loop."""

    def __init__(self, *, requests_per_s: float, rows_per_s: float) -> None:
        self._requests_per_s, self._rows_per_s = requests_per_s, rows_per_s
        self._senders: OrderedDict[str, _Buckets] = OrderedDict()

    def take(self, sender: str, now_s: float) -> None:
        """Count a request.

        Raises:
            QueueFull: the sender asked for too much; with `retry_after_s`.
        """
        found = self._filled(sender, now_s)
        wait_s = max(
            (1 - found.requests) / self._requests_per_s, -found.rows / self._rows_per_s, 0.0
        )
        if wait_s > 0:
            raise QueueFull(
                f"You send more than {self._requests_per_s:g} requests or {self._rows_per_s:g} "
                f"rows a second. Send the same again in {wait_s:.1f} s, in larger batches.",
                retry_after_s=wait_s,
            )
        found.requests -= 1

    def give_back(self, sender: str) -> None:
        """Uncount a request that will be counted once more."""
        if (found := self._senders.get(sender)) is not None:
            found.requests += 1

    def spend(self, sender: str, rows: int) -> None:
        """Count the rows of a request that was stored."""
        # What came in since is counted at the next `take`; a bucket that was pushed out is full.
        if (found := self._senders.get(sender)) is not None:
            found.rows -= rows

    def _filled(self, sender: str, now_s: float) -> _Buckets:
        full = (self._requests_per_s * _BURST_S, self._rows_per_s * _BURST_S)
        found = self._senders.get(sender)
        if found is None:
            found = self._senders[sender] = _Buckets(*full, now_s)
            if len(self._senders) > _SENDERS_MAX:
                self._senders.popitem(last=False)
        self._senders.move_to_end(sender)
        passed_s = max(0.0, now_s - found.at_s)
        found.requests = min(full[0], found.requests + passed_s * self._requests_per_s)
        found.rows = min(full[1], found.rows + passed_s * self._rows_per_s)
        found.at_s = now_s
        return found
