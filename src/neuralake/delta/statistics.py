"""The statistics of several files together, out of what the log says of each.

Section "Per-file Statistics" of the Delta protocol. As everywhere, a bound only ever widens: where
one file does not say, or says it in a form that cannot be compared surely, there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["combine"]

_Path = tuple[str, ...]
_Bounds = dict[_Path, Any]
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
    nulls = _sum([dict(_leaves(part.get("nullCount"))) for part in known])
    stats: dict[str, Any] = {
        "numRecords": sum(part["numRecords"] for part in known),
        "minValues": _tree(_extremes(known, "minValues", smallest=True)),
        "maxValues": _tree(_extremes(known, "maxValues", smallest=False)),
        "nullCount": _tree(nulls),
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


def _sum(parts: list[dict[_Path, Any]]) -> _Bounds:
    """Nulls of the columns that every part counts."""
    return {
        path: sum(part[path] for part in parts)
        for path in parts[0]
        if all(isinstance(part.get(path), int) for part in parts)
    }


def _extremes(parts: list[dict[str, Any]], key: str, *, smallest: bool) -> _Bounds:
    """The bounds that hold for every part; of columns that are null throughout a part, without it.

    A column that one part has no bound for, although it may have values there, has none.
    """
    bounds = [dict(_leaves(part.get(key))) for part in parts]
    nulls = [dict(_leaves(part.get("nullCount"))) for part in parts]
    found: _Bounds = {}
    for path in dict.fromkeys(path for part in bounds for path in part):
        values = [
            bound.get(path)
            for part, bound, empty in zip(parts, bounds, nulls, strict=True)
            if path in bound or empty.get(path) != part["numRecords"]
        ]
        if (extreme := _extreme(values, smallest=smallest)) is not None:
            found[path] = extreme
    return found


def _extreme(values: list[Any], *, smallest: bool) -> Any:
    if any(value is None for value in values) or len({_kind(value) for value in values}) != 1:
        return None
    extreme = min(values) if smallest else max(values)
    return msgspec.Raw(str(extreme).encode()) if isinstance(extreme, Decimal) else extreme


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
    return (str, value[-1]) if _TIME_IN_MS.fullmatch(value) else object()


def _leaves(tree: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(value, (*path, name))
    elif tree is not None and path:
        yield path, tree


def _tree(leaves: _Bounds) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        below = tree
        for name in path[:-1]:
            below = below.setdefault(name, {})
        below[path[-1]] = value
    return tree
