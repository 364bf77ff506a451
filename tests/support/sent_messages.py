"""Messages of a topic as a test writes them down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Sent"]


@dataclass
class Sent:
    """Values, and what comes with them; each has position 10 more than the one before."""

    sent: Sequence[bytes | None]
    key: list[bytes | None] = field(default_factory=list)
    tags: list[list[tuple[str, bytes | None]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sent)

    def positions(self) -> list[int]:
        return [10 * (index + 1) for index in range(len(self.sent))]  # With gaps.

    def values(self) -> list[bytes | None]:
        return list(self.sent)

    def keys(self) -> list[bytes | None]:
        return self.key

    def timestamps_ms(self) -> list[int | None]:
        return [1_700_000_000_000 + index for index in range(len(self.sent))]

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        return self.tags
