"""The schema in a Parquet footer from outside: its leaves, and the same schema written anew.

Only what decides how values are read is kept, field by field and by its right type: whoever reads
what is written here sees what was checked here. Structures are those of `parquet.thrift`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuralake.delta.thrift import (
    BINARY,
    BYTE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
)

__all__ = ["BOOLEAN", "BYTE_ARRAY", "FIXED_BYTES", "Leaf", "flag", "leaves", "structs", "whole"]

BOOLEAN, _INT32, _INT64, _INT96, _FLOAT, _DOUBLE, BYTE_ARRAY, FIXED_BYTES = range(8)
_WIDTHS = {BOOLEAN: 1, _INT32: 4, _INT64: 8, _INT96: 12, _FLOAT: 4, _DOUBLE: 8, BYTE_ARRAY: 0}
# SchemaElement
_TYPE, _LENGTH, _REPETITION, _NAME, _CHILDREN, _CONVERTED, _LOGICAL = 1, 2, 3, 4, 5, 6, 10
_KEPT = {**dict.fromkeys((1, 2, 3, 5, 6, 7, 8), I32), _NAME: BINARY}
_DECIMAL_BYTES = 16
_REQUIRED, _REPEATED = 0, 2
_ELEMENTS_MAX = 4096
_DEPTH_MAX = 16
_SCALARS = {TRUE, FALSE, BYTE, I16, I32, I64}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column of values, somewhere in the tree of the schema."""

    path: tuple[bytes, ...]
    kind: int
    width: int
    """Bytes of a value on the disk; 0 where it says so itself."""
    memory: int
    """Bytes of a value in memory, without what texts are made of and what nests them."""
    depth: int
    is_optional: bool
    is_repeated: bool


def leaves(elements: Sequence[Struct]) -> tuple[list[Leaf], list[Struct]]:
    """The leaves of a schema, in order, and its elements written anew.

    Raises:
        ValueError: it is damaged, or larger than any table's.
    """
    if not 2 <= len(elements) <= _ELEMENTS_MAX:
        raise ValueError(f"its schema has {len(elements)} elements")
    anew = [_element(element) for element in elements]
    found: list[Leaf] = []
    root = [_Open(whole(anew[0], _CHILDREN, I32), (), is_optional=False, is_repeated=False)]
    for element in anew[1:]:
        while root and not root[-1].left:
            root.pop()
        if not root or len(root) > _DEPTH_MAX:
            raise ValueError("its schema contradicts itself, or nests too deeply")
        within, repetition = root[-1], whole(element, _REPETITION, I32)
        within.left -= 1
        inner = _Open(
            element.get(_CHILDREN, (I32, 0))[1],
            (*within.path, element[_NAME][1]),
            is_optional=within.is_optional or repetition != _REQUIRED,
            is_repeated=within.is_repeated or repetition == _REPEATED,
        )
        if inner.left:
            root.append(inner)
        else:
            found.append(_leaf(element, inner))
    if any(opened.left for opened in root):
        raise ValueError("its schema is cut off")
    return found, anew


@dataclass(slots=True)
class _Open:
    """An element below the root, or the root, and how many of its children are still to come."""

    left: int
    path: tuple[bytes, ...]
    is_optional: bool
    is_repeated: bool


def _element(element: Struct) -> Struct:
    kept: Struct = {}
    for field, kind in _KEPT.items():
        if field in element:
            if element[field][0] != kind:
                raise ValueError("its schema is damaged")
            kept[field] = element[field]
            if kind == I32:
                whole(element, field, I32)
    if _NAME not in kept:
        raise ValueError("a column has no name")
    if _LOGICAL in element:
        kept[_LOGICAL] = (STRUCT, _plain(element[_LOGICAL], 0))
    return kept


def _plain(field: tuple[int, Any], depth: int) -> Struct:
    """A logical type: structs of scalars."""
    if field[0] != STRUCT or depth > 3:
        raise ValueError("a logical type is damaged")
    return {
        number: inner if inner[0] in _SCALARS else (STRUCT, _plain(inner, depth + 1))
        for number, inner in field[1].items()
    }


def _leaf(element: Struct, place: _Open) -> Leaf:
    kind = whole(element, _TYPE, I32)
    if kind == FIXED_BYTES:
        width = whole(element, _LENGTH, I32)
    elif kind in _WIDTHS:
        width = _WIDTHS[kind]
    else:
        raise ValueError(f"a column has the unknown type {kind}")
    # What is annotated may be a decimal, whose values have 16 bytes in memory.
    is_annotated = _CONVERTED in element or _LOGICAL in element
    memory = max(width, _DECIMAL_BYTES if is_annotated else 4)
    depth = len(place.path)
    return Leaf(place.path, kind, width, memory, depth, place.is_optional, place.is_repeated)


def whole(struct: Struct, field: int, kind: int, default: int | None = None) -> int:
    """A number that cannot be negative, of the type that the format gives it.

    Raises:
        ValueError: it is missing (unless there is a `default`), or something else.
    """
    found, value = struct.get(field, (kind, default))
    if found != kind or value is None or not 0 <= value < 2 ** (31 if kind == I32 else 63):
        raise ValueError("a number in a header is missing, or none")
    return int(value)


def flag(struct: Struct, field: int, *, default: bool) -> bool:
    """A boolean. Raises ValueError: it is something else."""
    kind = struct.get(field, (TRUE if default else FALSE, None))[0]
    if kind not in (TRUE, FALSE):
        raise ValueError("a flag in a header is none")
    return bool(kind == TRUE)


def structs(struct: Struct, field: int) -> list[Struct]:
    """A list of structs. Raises ValueError: it is missing, or something else."""
    kind, value = struct.get(field, (LIST, None))
    if kind != LIST or value is None or (value[0] != STRUCT and value[1]):
        raise ValueError("a list in the footer is missing, or none")
    return list(value[1])
