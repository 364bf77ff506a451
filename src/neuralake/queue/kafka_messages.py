"""Messages of a Kafka partition as columns: taken out of the client library's objects at once.

The garbage collector walks over such objects, again and again while they stay alive, and by
thousands that costs as much as to receive them. Values, keys and numbers it leaves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from confluent_kafka import Message

from neuralake.errors import UsageError
from neuralake.queue.protocol import Messages

__all__ = ["KafkaMessages"]


class KafkaMessages(Messages):
    """Grows by what is added, in order.

    Args:
        values_only: nobody will ask for keys, times or headers.
    """

    def __init__(self, *, values_only: bool = False) -> None:
        self._values_only = values_only
        self._offsets: list[Sequence[int]] = []
        self._values: list[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._timestamps_ms: list[int | None] = []
        self._headers: list[list[tuple[str, bytes | None]]] = []
        self._size = 0
        self.first_s = 0.0
        """When the first was stored, in Unix seconds."""

    def add(self, messages: Sequence[Message], *, size: int) -> None:
        """Add `messages`, at least one and none an error, with `size` bytes of values."""
        if not self._values:
            self.first_s = messages[0].timestamp()[1] / 1000
        # What was consumed has an offset; the library's type is also of what is to be sent.
        first, last = messages[0].offset() or 0, messages[-1].offset() or 0
        is_whole = last - first + 1 == len(messages)  # Offsets grow, so there is no gap.
        self._offsets.append(
            range(first, last + 1) if is_whole else [message.offset() or 0 for message in messages]
        )
        self._values += map(Message.value, messages)
        self._size += size
        if self._values_only:
            return
        self._keys += map(Message.key, messages)
        self._timestamps_ms += [
            time_ms if kind else None for kind, time_ms in map(Message.timestamp, messages)
        ]
        self._headers += [
            message.headers() or []  # type: ignore[misc]  # A dict only where it is to be sent.
            for message in messages
        ]

    @property
    def size(self) -> int:
        return self._size

    @property
    def last_offset(self) -> int:
        return self._offsets[-1][-1]

    def __len__(self) -> int:
        return len(self._values)

    def positions(self) -> list[int]:
        return [offset + 1 for offset in chain.from_iterable(self._offsets)]

    def values(self) -> list[bytes | None]:
        return self._values

    def keys(self) -> list[bytes | None]:
        self._check_kept()
        return self._keys

    def timestamps_ms(self) -> list[int | None]:
        self._check_kept()
        return self._timestamps_ms

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        self._check_kept()
        return self._headers

    def _check_kept(self) -> None:
        if self._values_only:
            raise UsageError("Of this topic only values are read: no column takes anything else.")
