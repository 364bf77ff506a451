"""The statistics of several column chunks together, as a Parquet footer has them.

What is certain of all parts stays, the rest is left out: an absent bound costs a reader time, a
wrong one rows. Structures are those of `parquet.thrift` in the Parquet format's specification.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuralake.delta.thrift import FALSE, I64, STRUCT, TRUE, Struct

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
        self._only: Struct = _NONE
        self._chunks = self._nulls = 0
        self._counts_nulls = self._has_bounds = True
        self._low: tuple[Any, Any] | None = None
        self._high: tuple[Any, Any] | None = None
        # FALSE, TRUE, or 0 where a part does not tell.
        self._low_is_exact: set[int] = set()
        self._high_is_exact: set[int] = set()

    def add(self, statistics: Struct, values: int) -> None:
        """Note the statistics of a chunk of so many values, nulls among them."""
        self._chunks += 1
        self._only = statistics if self._chunks == 1 else _NONE
        if _NULLS not in statistics:
            self._counts_nulls = False
            return
        nulls = statistics[_NULLS][1]
        self._nulls += nulls
        # A part of nothing but nulls bounds nothing away.
        if nulls >= values or not self._has_bounds:
            return
        if self._order is None or _MIN not in statistics or _MAX not in statistics:
            self._has_bounds = False
            return
        low, high = statistics[_MIN], statistics[_MAX]
        low_place, high_place = self._order(low[1]), self._order(high[1])
        if self._low is None or low_place < self._low[0]:
            self._low = (low_place, low)
        if self._high is None or high_place > self._high[0]:
            self._high = (high_place, high)
        self._low_is_exact.add(statistics.get(_MIN_IS_EXACT, (0, None))[0])
        self._high_is_exact.add(statistics.get(_MAX_IS_EXACT, (0, None))[0])

    def statistics(self) -> Struct:
        """Those of all chunks; empty if nothing is certain."""
        if self._chunks == 1:
            return self._only
        if not self._counts_nulls:
            return {}
        whole: Struct = {_NULLS: (I64, self._nulls)}
        if self._has_bounds and self._low is not None and self._high is not None:
            whole[_MIN], whole[_MAX] = self._low[1], self._high[1]
            if is_exact := _of_all(self._low_is_exact):
                whole[_MIN_IS_EXACT] = (is_exact, None)
            if is_exact := _of_all(self._high_is_exact):
                whole[_MAX_IS_EXACT] = (is_exact, None)
        return whole


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
