"""Where the batches of one table wait: what a client asks of memory and of a folder.

A batch is made of the parts of several calls of `send`, and has an ordinal. It is open for more
parts until it is sealed, right before it is sent for the first time; from then on its bytes do not
change, and it may be stored already.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from neuralake.client.body import Form, Part
from neuralake.client.options import Rejected

__all__ = ["Batch", "MemoryShelf", "Producer", "Shelf", "new_producer"]


@dataclass(frozen=True, slots=True)
class Producer:
    """Who sends, and which sequence each batch has."""

    id: str
    base_ordinal: int = 1
    """Batches before this one are done with."""
    base_sequence: int = 1
    """The sequence of the batch `base_ordinal`; those after it count on."""
    queue: str = ""
    """The only queue that may store its batches: sequences count in one. Empty: not known yet."""

    def sequence_of(self, ordinal: int) -> int:
        return self.base_sequence + ordinal - self.base_ordinal

    def without(self, ordinal: int) -> Producer:
        """The one after it gets the sequence of `ordinal`, which was not stored."""
        return replace(self, base_ordinal=ordinal + 1, base_sequence=self.sequence_of(ordinal))


def new_producer(base_ordinal: int = 1, *, queue: str = "") -> Producer:
    """One that nobody has heard of, whose first batch is `base_ordinal`."""
    return Producer(uuid.uuid4().hex, base_ordinal, queue=queue)


@dataclass(slots=True)
class Batch:
    """What is known of a batch without reading it."""

    ordinal: int
    form: Form
    opened_s: float
    """By the monotonic clock."""
    rows: int = 0
    bytes: int = 0
    parts: int = 0
    is_doubtful: bool = False
    """It was sent, and nobody said what became of it."""


class Shelf(Protocol):
    """The batches of one table. Every method raises OSError if its disk fails."""

    def load(self, now_s: float) -> tuple[Producer, list[Batch]]:
        """What an earlier process left, by ordinal."""

    def add(self, batch: Batch, part: Part) -> None:
        """Put `part` behind the others of the newest batch, which may be a new one.

        When this returns it is as durable as the shelf is; when it raises it is not there.
        """

    def seal(self, batch: Batch) -> None:
        """Remember that the batch may be stored from now on."""

    def parts(self, batch: Batch) -> list[Part]:
        """The parts of a batch. Raises NeedsAttention if they are damaged."""

    def remove(self, batch: Batch) -> None:
        """Forget a batch."""

    def replace(self, batch: Batch, parts: Sequence[Part]) -> None:
        """Give a batch other parts, which were not sent yet."""

    def restart(self, producer: Producer) -> None:
        """Remember who sends, and where it is."""

    def keep(self, rejected: Rejected, name: str) -> str:
        """Keep refused rows for a person; where they are, or an empty text: nowhere."""

    def close(self) -> None:
        """Let go of open files."""


@dataclass
class MemoryShelf:
    """A shelf that ends with the process."""

    _parts: dict[int, list[Part]] = field(default_factory=dict)

    def load(self, now_s: float) -> tuple[Producer, list[Batch]]:  # noqa: ARG002 of a protocol
        return new_producer(), []

    def add(self, batch: Batch, part: Part) -> None:
        self._parts.setdefault(batch.ordinal, []).append(part)

    def seal(self, batch: Batch) -> None:
        pass

    def parts(self, batch: Batch) -> list[Part]:
        return self._parts[batch.ordinal]

    def remove(self, batch: Batch) -> None:
        del self._parts[batch.ordinal]

    def replace(self, batch: Batch, parts: Sequence[Part]) -> None:
        self._parts[batch.ordinal] = [*parts]

    def restart(self, producer: Producer) -> None:
        pass

    def keep(self, rejected: Rejected, name: str) -> str:  # noqa: ARG002 of a protocol
        return ""

    def close(self) -> None:
        pass
