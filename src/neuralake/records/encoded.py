"""Rows as the queue stores them: one envelope with its number of rows and its fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import pyarrow as pa

from neuralake.records.dropped import Dropped
from neuralake.records.letters import DeadLetter, with_letters
from neuralake.records.media_types import ARROW

__all__ = ["Encoded", "encode", "encoded", "signed"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the queue stores."""

    payload: bytes
    rows: int
    fingerprint: bytes
    """Tells a request from another one under the same idempotency key."""
    letters: Sequence[DeadLetter] = ()
    """What of the request does not fit; they travel in `payload`, too."""
    dropped: Dropped | None = None
    """Columns that were left out."""


def encode(rows: pa.Table, letters: Sequence[DeadLetter] = ()) -> Encoded:
    """`rows` as one Arrow IPC stream, and `letters` behind it.

    Its fingerprint is the number of rows: the bytes of equal rows may differ from run to run, in
    what lies below nulls and in padding.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return encoded(sink.getvalue().to_pybytes(), rows.num_rows, letters)


def encoded(stream: bytes, rows: int, letters: Sequence[DeadLetter] = ()) -> Encoded:
    """`stream`, which is an Arrow IPC stream of so many rows, with `letters` behind it."""
    payload = with_letters(stream, letters)
    return Encoded(payload, rows, b"%d" % (rows + len(letters)), letters)


def signed(found: Encoded, body: bytes, media_type: str, *, is_verbatim: bool) -> Encoded:
    """`found` with a fingerprint of the bytes of `body`.

    Not of Arrow, unless it `is_verbatim`: who sends it again may write it in other bytes.
    """
    if media_type == ARROW and not is_verbatim:
        return found
    return replace(found, fingerprint=blake2b(body, digest_size=8).digest())
