"""The statistics of several column chunks together, as a Parquet footer has them.

What is certain of all parts stays, the rest is left out: an absent bound costs a reader time, a
wrong one rows. Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuralake.delta.chunk_meta import Chunk
from neuralake.delta.thrift import BINARY, FALSE, I64, STRUCT, TRUE, Struct

__all__ = ["ChunkBounds"]

# SchemaElement
_CONVERTED, _LOGICAL = 6, 10
# Statistics
_NULLS, _MAX, _MIN, _MAX_IS_EXACT, _MIN_IS_EXACT = 3, 5, 6, 7, 8
_BOOLEAN, _INT32, _INT64, _BYTES, _FIXED = 0, 1, 2, 6, 7
_TEXT, _DECIMAL, _UNSIGNED = 0, 5, {11, 12, 13, 14}  # ConvertedType
_LOGICAL_TEXT, _LOGICAL_INTEGER = 1, 10  # LogicalType
_IS_SIGNED = 2  # IntType
_NONE: Struct = {}


class ChunkBounds:
    """Nulls and bounds of a leaf, chunk after chunk."""

    def __init__(self, kind: int, element: Struct) -> None:
        self._order = _order(kind, element)
        self._only: Chunk | None = None
        self._chunks = self._nulls = 0
        self._counts_nulls = self._has_bounds = True
        self._low: tuple[Any, bytes] | None = None
        self._high: tuple[Any, bytes] | None = None
        # FALSE, TRUE, or 0 where a part does not tell.
        self._low_is_exact: set[int] = set()
        self._high_is_exact: set[int] = set()

    def add(self, chunk: Chunk) -> None:
        """Note the statistics of a chunk."""
        self._chunks += 1
        self._only = chunk if self._chunks == 1 else None
        nulls = chunk.nulls
        if nulls is None:
            self._counts_nulls = False
            return
        self._nulls += nulls
        # A part of nothing but nulls bounds nothing away.
        if nulls >= chunk.values or not self._has_bounds:
            return
        low, high = chunk.low, chunk.high
        if self._order is None or low is None or high is None:
            self._has_bounds = False
            return
        low_place, high_place = self._order(low), self._order(high)
        if self._low is None or low_place < self._low[0]:
            self._low = (low_place, low)
        if self._high is None or high_place > self._high[0]:
            self._high = (high_place, high)
        self._low_is_exact.add(chunk.manner.low_is_exact)
        self._high_is_exact.add(chunk.manner.high_is_exact)

    def statistics(self) -> Struct:
        """Those of all chunks; empty if nothing is certain."""
        if self._only is not None:
            only, manner = self._only, self._only.manner
            exact = manner.low_is_exact, manner.high_is_exact
            return _statistics(only.nulls, only.low, only.high, *exact)
        if not self._counts_nulls:
            return {}
        if not self._has_bounds or self._low is None or self._high is None:
            return _statistics(self._nulls, None, None, 0, 0)
        exact = _of_all(self._low_is_exact), _of_all(self._high_is_exact)
        return _statistics(self._nulls, self._low[1], self._high[1], *exact)


def _statistics(
    nulls: int | None, low: bytes | None, high: bytes | None, low_exact: int, high_exact: int
) -> Struct:
    told = {_NULLS: (I64, nulls), _MAX: (BINARY, high), _MIN: (BINARY, low)}
    found: Struct = {field: pair for field, pair in told.items() if pair[1] is not None}
    exact = {_MAX_IS_EXACT: high_exact, _MIN_IS_EXACT: low_exact}
    return {**found, **{field: (kind, None) for field, kind in exact.items() if kind}}


def _of_all(told: set[int]) -> int:
    """TRUE if each part says so, FALSE if one does, else 0; some readers take 0 for TRUE."""
    if FALSE in told:
        return FALSE
    return TRUE if told == {TRUE} else 0


def _order(kind: int, element: Struct) -> Callable[[bytes], Any] | None:
    """What bounds of a type are compared by; None where that is not certain."""
    converted = element.get(_CONVERTED, (0, None))[1]
    logical: Struct = element.get(_LOGICAL, (STRUCT, _NONE))[1]
    if _LOGICAL_INTEGER in logical:
        integer: Struct = logical[_LOGICAL_INTEGER][1]
        if integer.get(_IS_SIGNED, (0, None))[0] != TRUE:
            return None
    if kind == _FIXED:
        return _big_endian if converted == _DECIMAL else None
    if kind in (_BOOLEAN, _INT32, _INT64) and converted not in _UNSIGNED:
        return _little_endian
    if kind == _BYTES and converted in (None, _TEXT):
        return bytes if logical.keys() <= {_LOGICAL_TEXT} else None
    return None  # Floats: NaN, and two zeros.


def _little_endian(bound: bytes) -> int:
    return int.from_bytes(bound, "little", signed=True)


def _big_endian(bound: bytes) -> int:
    return int.from_bytes(bound, "big", signed=True)
