"""How much a queue may keep, in all and of each topic, and the errors when it is as much.

A topic's own limit keeps room for the others: a table that cannot be written fills its share, and
the rest of the queue goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from neuralake.errors import QueueFull, TooLarge

__all__ = ["NOTHING", "Amount", "QueueLimits"]

# What a full queue tells its callers: by then the writer has committed and trimmed, or the lake
# has a trouble that no short wait cures.
_RETRY_AFTER_S = 1.0
_WHOLE = "all tables"


class Amount(NamedTuple):
    """Payload bytes and rows: those that are kept, or the most that may be."""

    bytes: int
    rows: int

    def exceeds(self, most: Amount) -> bool:
        """Whether it is more than `most`, in one or the other."""
        return self.bytes > most.bytes or self.rows > most.rows

    def plus(self, other: Amount) -> Amount:
        return Amount(self.bytes + other.bytes, self.rows + other.rows)


NOTHING = Amount(0, 0)


_ALL_MAX = Amount(4096 * 1024 * 1024, 1_000_000_000)
_TOPIC_MAX = Amount(2048 * 1024 * 1024, 500_000_000)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits of one queue: of all topics together, and of a topic where it has none of its own.

    The defaults are those of the settings (`[queue]`).
    """

    whole: Amount = _ALL_MAX
    topic: Amount = _TOPIC_MAX
    topics: Mapping[str, Amount] = field(default_factory=dict)

    def of(self, topic: str) -> Amount:
        """The limit of one topic."""
        return self.topics.get(topic, self.topic)

    def crowded(self, topic: str, *, topics: int) -> Amount:
        """So much of `topic`, which is one of `topics`, that room should be made."""
        own, whole = self.of(topic), self.whole
        return Amount(
            min(own.bytes // 2, whole.bytes // (2 * topics)),
            min(own.rows // 2, whole.rows // (2 * topics)),
        )

    def check(self, topic: str, more: Amount, *, topic_kept: Amount, kept: Amount) -> None:
        """Raise if `more` does not fit beside what is kept now of the topic and in all.

        Raises:
            TooLarge: it exceeds a limit by itself; it will never fit.
            QueueFull: it does not fit now. Facts: `topic`, `unit`, `limit`, `found`, `kept`.
        """
        for whose, most, now in (
            (f"table {topic!r}", self.of(topic), topic_kept),
            (_WHOLE, self.whole, kept),
        ):
            if now.plus(more).exceeds(most):
                raise _refusal(topic, whose, more, most, now)


def _refusal(
    topic: str, whose: str, more: Amount, most: Amount, now: Amount
) -> TooLarge | QueueFull:
    """The error for the first unit in which `more` does not fit; at all before now."""
    unit, by = next(
        (unit, by)
        for base in (NOTHING, now)
        for by, unit in enumerate(Amount._fields)
        if base[by] + more[by] > most[by]
    )
    setting = f"queue.table_{unit}_max, or queue_{unit}_max of the table's Stream"
    if whose == _WHOLE:
        setting = f"queue.{unit}_max"
    if more[by] > most[by]:
        return TooLarge(
            f"An envelope of {more[by]} {unit} for {topic!r} exceeds all that {whose} may have in "
            f"the queue ({most[by]} {unit}). Send fewer rows at once, or raise {setting}.",
            topic=topic,
            limit=most[by],
            found=more[by],
            unit=unit,
        )
    return QueueFull(
        f"{now[by]} {unit} of {whose} wait in the queue or are kept for live readers; it may be "
        f"{most[by]}, and {more[by]} more for {topic!r} do not fit. Send the same again when the "
        f"writer has caught up. The limit is {setting}.",
        topic=topic,
        limit=most[by],
        found=now[by] + more[by],
        kept=now[by],
        unit=unit,
        retry_after_s=_RETRY_AFTER_S,
    )
