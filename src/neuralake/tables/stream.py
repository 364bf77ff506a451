"""That a table can be ingested into, how soon its rows are committed, and how many may wait."""

from __future__ import annotations

from dataclasses import dataclass

from neuralake.errors import UsageError
from neuralake.tables.kafka import KafkaTopic

__all__ = ["Stream"]

# A commit a minute is the slowest that still is a stream; slower is a batch job's work.
_FLUSH_MS_LONGEST = 60_000
_LIMITS = (
    "flush_ms_max",
    "flush_rows_max",
    "flush_bytes_max",
    "queue_bytes_max",
    "queue_rows_max",
)


@dataclass(frozen=True, slots=True)
class Stream:
    """When the writer commits waiting rows: at whichever limit is reached first.

    None takes the lake's setting (`[writer]` and `[queue]` in `neuralake.toml`).

    Args:
        flush_ms_max: longest time a row waits for its commit to begin, 1 to 60,000.
        flush_rows_max: rows that are worth a commit at once.
        flush_bytes_max: bytes (as queued) that are worth a commit at once.
        queue_bytes_max: bytes that the queue keeps of the table before senders are told to wait.
        queue_rows_max: rows that it keeps.
        kafka: the Kafka topic that the rows come from; without it they are sent to the platform.

    Raises:
        UsageError: a limit is not a positive whole number, or `flush_ms_max` is too long.
    """

    flush_ms_max: int | None = None
    flush_rows_max: int | None = None
    flush_bytes_max: int | None = None
    queue_bytes_max: int | None = None
    queue_rows_max: int | None = None
    kafka: KafkaTopic | None = None

    def __post_init__(self) -> None:
        if self.kafka is not None and not isinstance(self.kafka, KafkaTopic):
            raise UsageError(
                f"Stream(kafka={self.kafka!r}): write KafkaTopic({str(self.kafka)!r}).",
                name="kafka",
            )
        for name in _LIMITS:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value <= 0):
                raise UsageError(
                    f"Stream({name}={value!r}): a limit is a whole number greater than 0, or None "
                    f"for the lake's setting.",
                    name=name,
                )
        if self.flush_ms_max is not None and self.flush_ms_max > _FLUSH_MS_LONGEST:
            raise UsageError(
                f"Stream(flush_ms_max={self.flush_ms_max}): rows may wait for their commit at most "
                f"{_FLUSH_MS_LONGEST} ms; the queue keeps only so much.",
                name="flush_ms_max",
            )
