"""That a table can be ingested into, how soon its rows are committed, and what of bad rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from neuralake.errors import UsageError, suggestion
from neuralake.tables.kafka import KafkaTopic

__all__ = ["ON_INVALID", "UNKNOWN_COLUMNS", "Stream"]

ON_INVALID = ("reject", "dead_letter")
UNKNOWN_COLUMNS = ("reject", "drop", "evolve")

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
    """When the writer commits waiting rows: at whichever limit is reached first; and what it takes.

    None takes the lake's setting (`[writer]` and `[queue]` in `neuralake.toml`).

    Args:
        flush_ms_max: longest time a row waits for its commit to begin, 1 to 60,000.
        flush_rows_max: rows that are worth a commit at once.
        flush_bytes_max: bytes (as queued) that are worth a commit at once.
        queue_bytes_max: bytes that the queue keeps of the table before senders are told to wait.
        queue_rows_max: rows that it keeps.
        kafka: the Kafka topic that the rows come from; without it they are sent to the platform.
        on_invalid: what becomes of rows that do not fit. `reject`: the whole request is refused
            (nobody can be told of a Kafka message: all of it is a dead letter). `dead_letter`: the
            other rows are stored, and these go to the table of dead letters, `<uri>_rejected`.
        unknown_columns: what becomes of columns that the schema has not. `reject`: their rows do
            not fit. `drop`: they are left out, and the answer says which. `evolve`: they become
            columns of the Delta table, with the first rows that have them.
        rules: a dataframely `Schema` (the class): rows that do not keep it do not fit. Its columns
            are some of the table's.

    Raises:
        UsageError: a limit is not a positive whole number, `flush_ms_max` is too long, or a policy
            is none that there is.
    """

    flush_ms_max: int | None = None
    flush_rows_max: int | None = None
    flush_bytes_max: int | None = None
    queue_bytes_max: int | None = None
    queue_rows_max: int | None = None
    kafka: KafkaTopic | None = None
    on_invalid: str = "reject"
    unknown_columns: str = "reject"
    rules: Any = None

    def __post_init__(self) -> None:
        if self.kafka is not None and not isinstance(self.kafka, KafkaTopic):
            raise UsageError(
                f"Stream(kafka={self.kafka!r}): write KafkaTopic({str(self.kafka)!r}).",
                name="kafka",
            )
        self._check_choice("on_invalid", ON_INVALID)
        self._check_choice("unknown_columns", UNKNOWN_COLUMNS)
        self._check_rules()
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

    @property
    def evolves(self) -> bool:
        """Whether the table may have more columns than its definition."""
        return self.unknown_columns == "evolve"

    def check(self, schema: pa.Schema) -> None:
        """Refuse what does not go with the columns of its table; raises UsageError."""
        if self.kafka is not None:
            self.kafka.check(schema)
        for name in [] if self.rules is None else self.rules.columns():
            if name not in schema.names:
                raise UsageError(
                    f"Stream(rules={self.rules.__name__}): the table has no column {name!r}."
                    f"{suggestion(name, schema.names)} Columns: {', '.join(schema.names)}.",
                    name="rules",
                    column=name,
                )

    def _check_rules(self) -> None:
        # By its methods, so that definitions do not load dataframely to find that there is none.
        wanted, rules = ("filter", "columns", "primary_key"), self.rules
        if rules is None:
            return
        if not isinstance(rules, type) or not all(hasattr(rules, name) for name in wanted):
            raise UsageError(
                f"Stream(rules={self.rules!r}): give a class below dataframely.Schema.",
                name="rules",
            )
        if self.kafka is not None and getattr(rules, "primary_key")():  # noqa: B009 mypy knows a type
            raise UsageError(
                f"Stream(rules={self.rules.__name__}): it has a primary key, but of a Kafka topic "
                f"each message is checked by itself. Leave primary_key out.",
                name="rules",
            )

    def _check_choice(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise UsageError(
                f"Stream({name}={value!r}): it is one of {', '.join(map(repr, known))}."
                f"{suggestion(str(value), list(known))}",
                name=name,
                known=list(known),
            )
