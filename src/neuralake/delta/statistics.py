"""The statistics of several files together, out of what the log says of each.

Section "Per-file Statistics" of the Delta protocol. As everywhere, a bound only ever widens: where
one file does not say, or says it in a form that cannot be compared surely, there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["combine"]

_Tree = dict[str, Any]
_Extreme = Callable[[list[Any]], Any]
# JSON numbers as they are written: a float64 would round a decimal.
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
# One spelling of a time, in which the order of texts is the order of times.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_TIME_IN_MS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z?")


def combine(parts: Sequence[str | None]) -> str | None:
    """The `stats` of a file with the rows of all `parts`; None if a part's rows are not known."""
    found = [_decode(part) for part in parts]
    if not found or any(part is None for part in found):
        return None
    known = [part for part in found if part is not None]
    rows: list[int] = [part["numRecords"] for part in known]
    nulls = [_tree(part, "nullCount") for part in known]
    low, high = ([_tree(part, key) for part in known] for key in ("minValues", "maxValues"))
    stats: dict[str, Any] = {
        "numRecords": sum(rows),
        "minValues": _extremes(low, nulls, rows, min),
        "maxValues": _extremes(high, nulls, rows, max),
        "nullCount": _sums(nulls),
    }
    if any(part.get("tightBounds") is False for part in known):
        stats["tightBounds"] = False
    return msgspec.json.encode(stats).decode()


def _decode(stats: str | None) -> dict[str, Any] | None:
    try:
        found = _DECODER.decode(stats or "null")
    except msgspec.DecodeError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("numRecords"), int):
        return None
    return found


def _tree(parent: dict[str, Any], name: str) -> _Tree:
    """What is told of the columns, or of the fields of one: values and trees, by name."""
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _sums(nulls: list[_Tree]) -> _Tree:
    """Nulls of the columns that every part counts."""
    found: _Tree = {}
    for name in nulls[0]:
        counts = [tree.get(name) for tree in nulls]
        kinds = set(map(type, counts))
        if kinds == {int}:
            found[name] = sum(count or 0 for count in counts)
        elif kinds == {dict} and (below := _sums([_tree(tree, name) for tree in nulls])):
            found[name] = below
    return found


def _extremes(bounds: list[_Tree], nulls: list[_Tree], rows: list[int], extreme: _Extreme) -> _Tree:
    """The bounds that hold for every part; of columns that are null throughout a part, without it.

    A column that one part has no bound for, although it may have values there, has none.
    """
    found: _Tree = {}
    for name in dict.fromkeys(name for tree in bounds for name in tree):
        values = [tree.get(name) for tree in bounds]
        if dict in map(type, values):
            below = [_tree(tree, name) for tree in bounds]
            found[name] = _extremes(below, [_tree(tree, name) for tree in nulls], rows, extreme)
            continue
        if None in values:
            empty = [tree.get(name) == count for tree, count in zip(nulls, rows, strict=True)]
            pairs = zip(values, empty, strict=True)
            values = [value for value, is_empty in pairs if value is not None or not is_empty]
        if values and _are_comparable(values):
            value = extreme(values)
            is_decimal = isinstance(value, Decimal)
            found[name] = msgspec.Raw(str(value).encode()) if is_decimal else value
    return {name: value for name, value in found.items() if value != {}}


def _are_comparable(values: list[Any]) -> bool:
    """Whether the order of the values is surely that of the column's."""
    kinds = set(map(type, values))
    if kinds == {str} and all(map(_TIME_IN_MS.fullmatch, values)):
        return len({value.endswith("Z") for value in values}) == 1
    if kinds == {int} or (kinds == {str} and not any(map(_TIME.match, values))):
        return True
    return None not in values and len({_kind(value) for value in values}) == 1


def _kind(value: Any) -> object:
    """Equal of values whose order is that of the column's; unlike every other if it is not sure."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | Decimal):
        return Decimal
    if not isinstance(value, str):
        return object()
    if _TIME.match(value) is None:
        return str
    # Other spellings (microseconds, zones) sort otherwise than the times do. A text column may hold
    # such texts too; that it then has no bound costs little.
    return (str, value.endswith("Z")) if _TIME_IN_MS.fullmatch(value) else object()
