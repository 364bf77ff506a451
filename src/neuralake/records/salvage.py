"""The rows of a body that fit, and the others as dead letters with their bytes and reasons.

Only bodies that were refused as a whole come here. Blocks of rows are read as any body is; one that
fails is halved until a single row is left, which is the letter. What is accepted is therefore what
the readers accept, and one odd row costs its own block a second reading. Letters are bounded in
number and size: beyond that the whole is refused, since nothing of what is acknowledged may be cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from neuralake.errors import InvalidRows, TooLarge, UnsupportedMedia, UsageError
from neuralake.records.dropped import Dropped
from neuralake.records.letters import DeadLetter, reason_of
from neuralake.records.rules import Rules

__all__ = [
    "LetterLimits",
    "Pieces",
    "Salvaged",
    "is_misfit",
    "salvage",
    "whole_letter",
    "without_broken",
]

_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class LetterLimits:
    """What one request may leave as dead letters."""

    count_max: int
    bytes_max: int
    """Of one letter."""


class Pieces(Protocol):
    """A body taken apart into its rows."""

    @property
    def format(self) -> str:
        """As `DeadLetter.format`, of `raw`."""

    def __len__(self) -> int: ...

    def table(self, first: int, end: int, dropped: Dropped) -> pa.Table:
        """The rows `first` to `end` (not included), exactly so many; UsageError as the readers.

        `dropped` counts the columns that are left out.
        """

    def raw(self, index: int) -> bytes:
        """The bytes of one row."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of the rows of a body."""

    tables: list[pa.Table]
    kept: list[int]
    """The number of each row of `tables`, in order."""
    letters: list[DeadLetter]
    dropped: Dropped


def is_misfit(error: UsageError) -> bool:
    """Whether `error` says something of the data, and not of a limit or of the request."""
    return not isinstance(error, TooLarge | UnsupportedMedia)


def salvage(
    pieces: Pieces, *, fit: Callable[[pa.Table], pa.Table], limits: LetterLimits, source: str = ""
) -> Salvaged:
    """What fits of `pieces`, in order, after `fit`, which may refuse rows as readers do.

    Raises:
        InvalidRows: more letters, or larger ones, than `limits`; with `row`, `column`, `reason`.
    """
    found = Salvaged([], [], [], Dropped())
    starts = range(0, len(pieces), _BLOCK_ROWS)
    waiting = [(first, min(first + _BLOCK_ROWS, len(pieces))) for first in reversed(starts)]
    while waiting:
        first, end = waiting.pop()
        dropped = Dropped()
        try:
            found.tables.append(fit(pieces.table(first, end, dropped)))
        except UsageError as error:
            if not is_misfit(error):
                raise
            if end - first > 1:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]
                continue
            letter = _letter(pieces.raw(first), error, first, pieces.format, source)
            _check_letter(letter, found.letters, limits)
            found.letters.append(letter)
        else:
            found.kept.extend(range(first, end))
            found.dropped.merge(dropped)
    return found


def without_broken(
    table: pa.Table,
    rules: Rules,
    pieces: Pieces,
    found: Salvaged,
    *,
    limits: LetterLimits,
    source: str = "",
) -> pa.Table:
    """The rows of `table`, all that was `found`, but those that break rules: letters of `found`.

    Raises:
        InvalidRows: as `salvage`.
    """
    broken = rules.failing(table)
    for one in broken:
        index = found.kept[one.row]
        letter = DeadLetter(
            pieces.raw(index),
            one.reason,
            one.column,
            row=index,
            format=pieces.format,
            source=source,
        )
        _check_letter(letter, found.letters, limits)
        found.letters.append(letter)
    found.letters.sort(key=lambda letter: letter.row or 0)
    rows = {one.row for one in broken}
    kept = [row for row in range(table.num_rows) if row not in rows]
    return table.take(pa.array(kept, pa.int64())) if rows else table


def whole_letter(
    value: bytes, error: UsageError, *, format: str, limits: LetterLimits, source: str = ""
) -> DeadLetter:
    """The letter of a body that cannot be taken apart.

    Raises:
        UsageError: it is larger than a letter may be: `error` itself.
    """
    if len(value) > limits.bytes_max:
        raise error
    return _letter(value, error, None, format, source)


def _check_letter(letter: DeadLetter, before: list[DeadLetter], limits: LetterLimits) -> None:
    """Refuse the whole for a letter too many, or too large; InvalidRows."""
    if len(before) >= limits.count_max:
        first = before[0] if before else letter
        raise InvalidRows(
            f"More than {limits.count_max} rows do not fit, so nothing is stored. The first is row "
            f"{first.row}: {first.reason}.",
            row=first.row,
            column=first.column,
            reason=first.reason,
            letters_max=limits.count_max,
        )
    if len(letter.value) > limits.bytes_max:
        raise InvalidRows(
            f"Row {letter.row} does not fit: {letter.reason}. It has {len(letter.value)} bytes, "
            f"more than a dead letter keeps ({limits.bytes_max}), so nothing is stored.",
            row=letter.row,
            column=letter.column,
            reason=letter.reason,
            letter_bytes_max=limits.bytes_max,
        )


def _letter(
    value: bytes, error: UsageError, row: int | None, format: str, source: str
) -> DeadLetter:
    reason, column = reason_of(error)
    return DeadLetter(value, reason, column, row=row, format=format, source=source)
