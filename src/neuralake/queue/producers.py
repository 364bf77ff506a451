"""Producers and their sequences: how a queue knows what a sender sent before, without a key each.

A producer numbers what it appends to a topic 1, 2, 3, …. The queue stores only the next number, so
what it holds of a producer is in order and without a gap, and whatever is repeated is recognised by
a few numbers instead of a key for each append. Pure: where they are kept, and for how long, is the
queue's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neuralake.errors import KeyReused, OutOfOrder, UnknownProducer, UsageError

__all__ = [
    "PRODUCERS_MAX",
    "PRODUCERS_RETENTION_S",
    "SEQUENCES_KEPT",
    "ProducerSequence",
    "Remembered",
    "check_producer",
    "check_sequence",
]

PRODUCERS_RETENTION_S = 7 * 24 * 3600.0
SEQUENCES_KEPT = 5
"""Newest numbers of each producer that a repeat is recognised by: as many may be on their way."""
PRODUCERS_MAX = 200_000
"""Producers remembered over all topics; of more, the quietest are forgotten."""

_SEQUENCE_MAX = 2**53  # What JSON carries everywhere; 285 years at a million a second.


@dataclass(frozen=True, slots=True)
class ProducerSequence:
    """Who appends, and which of its appends to the topic this is."""

    producer: str
    """Unique to one sender and, in it, to one unbroken count: a random identity."""
    sequence: int
    """1 for its first append to a topic."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """One of the newest appends of a producer."""

    position: int
    fingerprint: bytes | None
    appended_s: float


def check_producer(producer: ProducerSequence | None, key: str | None) -> None:
    """Raise UsageError for numbers that no queue counts."""
    if producer is None:
        return
    if key is not None:
        raise UsageError("An append has an idempotency key or a producer's sequence, not both.")
    if not 1 <= producer.sequence <= _SEQUENCE_MAX:
        raise UsageError(
            f"The sequence is {producer.sequence}; a producer counts from 1.",
            sequence=producer.sequence,
        )


def check_sequence(
    topic: str,
    asked: ProducerSequence,
    known: Mapping[int, Remembered],
    *,
    fingerprint: bytes | None,
    forgotten_s: float,
    queue_id: str,
) -> int | None:
    """The first position of a repeat; None for the number that comes next.

    Args:
        known: by sequence, what is kept of the producer; its newest is always among it.
        forgotten_s: what was appended before this is forgotten.

    Raises:
        UnknownProducer, OutOfOrder: it is neither.
        KeyReused: the number came with something else before.
    """
    last = max(known, default=0)
    if last and known[last].appended_s < forgotten_s:
        last = 0
    facts = {
        "topic": topic,
        "producer": asked.producer,
        "sequence": asked.sequence,
        "expected": last + 1,
        "queue": queue_id,
    }
    if asked.sequence == last + 1:
        return None
    if not last:
        raise UnknownProducer(
            f"Producer {asked.producer!r} goes on at {asked.sequence} of {topic!r}, but this queue "
            f"does not know it: it was quiet for too long, or sent to another queue. Nothing of "
            f"this is stored. Whether its last rows are, only the table can tell; go on as a new "
            f"producer, from 1.",
            **facts,
        )
    if asked.sequence > last:
        raise OutOfOrder(
            f"Producer {asked.producer!r} sent {asked.sequence} of {topic!r}, but {last + 1} comes "
            f"next. Nothing of this is stored; send what is missing first.",
            **facts,
        )
    found = known.get(asked.sequence)
    if found is None or found.appended_s < forgotten_s:
        raise OutOfOrder(
            f"Producer {asked.producer!r} sent {asked.sequence} of {topic!r}, which is too long "
            f"ago to be compared: {last + 1} comes next. Nothing of this is stored. If nobody else "
            f"uses this producer's identity, it was stored before.",
            **facts,
        )
    if None not in (fingerprint, found.fingerprint) and fingerprint != found.fingerprint:
        raise KeyReused(
            f"Producer {asked.producer!r} sent other rows as {asked.sequence} of {topic!r} before, "
            f"which are at position {found.position}; nothing of this is stored. Two senders share "
            f"an identity, or one changed what it sent.",
            position=found.position,
            **facts,
        )
    return found.position
