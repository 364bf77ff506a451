"""Thrift structs that are spelled alike: what they have in common is compared, not decoded.

The footers of a writer's files differ in a few numbers and bounds, in places that are known. What
lies between these is the same bytes in each of them, and the same bytes are the same fields. So the
first struct of a form is decoded field by field, and teaches what to compare the next ones with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from neuralake.delta.thrift import (
    BINARY,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
    binary_at,
    decode_at,
    encode,
    field_header,
    integer_at,
    list_header,
    value_bytes,
)

__all__ = ["Forms", "Path"]

Path = tuple[int, ...]
"""Field numbers from the outermost struct inwards. What is in a list has none."""

# To learn a form takes as long as to decode so many structs.
_UNLIKE_MIN = 16
# A column has two or three in practice: its texts repeat or do not, it has bounds or none.
_FORMS_MAX = 8
_INTEGER = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_INTEGERS = {I16, I32, I64}
_IN_LIST = 0


class Forms:
    """Decodes structs of few forms, such as the same column of many files.

    Args:
        variable: the integers and binaries that may differ within a form.
        ignored: fields that may differ, too, and are left out of what is decoded.
    """

    def __init__(self, variable: Collection[Path], ignored: Collection[Path] = ()) -> None:
        self._variable, self._ignored = frozenset(variable), frozenset(ignored)
        self._known: list[_Form] = []
        self._unlike = 0

    def decode_at(self, data: bytes, at: int) -> tuple[Struct, int]:
        """As `thrift.decode_at`, but for the fields that are ignored. Raises as it does."""
        for form in self._known:
            if (found := form.read(data, at)) is not None:
                return found
        struct, end = decode_at(data, at)
        self._unlike += 1
        is_worth_it = _UNLIKE_MIN <= self._unlike and len(self._known) < _FORMS_MAX
        # Other spellings of the same are possible; they teach nothing.
        if is_worth_it and encode(struct) == data[at:end]:
            form = _Form(struct, self._variable, self._ignored, is_first=not self._known)
            self._known.insert(0, form)
        return _without(struct, self._ignored), end


class _Form:
    """A struct with gaps.

    Args:
        is_first: of its kind. The bounds of numbers are all of one length, and then one comparison
            does; those of texts are not, and teach a second form that reads their lengths.
    """

    def __init__(
        self,
        struct: Struct,
        variable: frozenset[Path],
        ignored: frozenset[Path],
        *,
        is_first: bool,
    ) -> None:
        self._variable, self._ignored, self._is_fixed = variable, ignored, is_first
        self._pattern = b""
        self._patterns: list[re.Pattern[bytes]] = []
        self._integers: list[bool] = []
        # Whether the binary after each pattern but the last is part of what is decoded.
        self._is_kept: list[bool] = []
        self._learn_struct(struct, (), is_kept=True)
        self._end_pattern()
        self._mould = _Mould(struct, variable, ignored)

    def read(self, data: bytes, at: int) -> tuple[Struct, int] | None:
        """The struct at `at` and where it ends; None: it is of another form, or damaged."""
        found = self._patterns[0].match(data, at)
        if found is None:
            return None
        values: list[Any] = [*found.groups()]
        for pattern, is_kept in zip(self._patterns[1:], self._is_kept, strict=True):
            try:
                value, at = binary_at(data, found.end())
            except (IndexError, ValueError):
                return None
            if is_kept:
                values.append(value)
            found = pattern.match(data, at)
            if found is None:
                return None
            values += found.groups()
        told = [
            _SPELLED[value] if is_integer else value
            for value, is_integer in zip(values, self._integers, strict=True)
        ]
        return self._mould.filled(iter(told)), found.end()

    def _learn_struct(self, struct: Struct, path: Path, *, is_kept: bool) -> None:
        last = 0
        for number, (kind, value) in sorted(struct.items()):
            self._pattern += re.escape(field_header(kind, number, last))
            last = number
            if kind not in (TRUE, FALSE):  # Those have their value in the header.
                self._learn(kind, value, (*path, number), is_kept=is_kept)
        self._pattern += rb"\x00"

    def _learn(self, kind: int, value: Any, path: Path, *, is_kept: bool) -> None:
        is_kept = is_kept and path not in self._ignored
        is_open = not is_kept or path in self._variable
        if kind == STRUCT:
            self._learn_struct(value, path, is_kept=is_kept)
        elif kind == LIST:
            element, values = value
            self._pattern += re.escape(list_header(element, len(values)))
            for each in values:
                self._learn(element, each, (*path, _IN_LIST), is_kept=is_kept)
        elif kind in _INTEGERS and is_open:
            self._pattern += b"(" + _INTEGER + b")" if is_kept else _INTEGER
            self._integers += [True] * is_kept
        elif kind == BINARY and is_open and self._is_fixed:
            self._pattern += re.escape(value_bytes(BINARY, value)[: -len(value) or None])
            gap = b".{%d}" % len(value)
            self._pattern += b"(" + gap + b")" if is_kept else gap
            self._integers += [False] * is_kept
        elif kind == BINARY and is_open:
            self._end_pattern()
            self._is_kept.append(is_kept)
            self._integers += [False] * is_kept
        else:
            self._pattern += re.escape(value_bytes(kind, value))

    def _end_pattern(self) -> None:
        self._patterns.append(re.compile(self._pattern, re.DOTALL))
        self._pattern = b""


class _Mould:
    """What is the same in every struct of a form, and where the rest goes."""

    def __init__(
        self,
        struct: Struct,
        variable: frozenset[Path],
        ignored: frozenset[Path],
        path: Path = (),
    ) -> None:
        self._same = _without(struct, ignored, path)
        self._gaps: list[tuple[int, int, _Mould | None]] = []
        for number, (kind, value) in sorted(self._same.items()):
            below = (*path, number)
            if kind == STRUCT:
                mould = _Mould(value, variable, ignored, below)
                if mould._gaps:
                    self._gaps.append((number, kind, mould))
            elif below in variable and (kind in _INTEGERS or kind == BINARY):
                self._gaps.append((number, kind, None))

    def filled(self, values: Iterator[Any]) -> Struct:
        """A struct with the next `values` in its gaps."""
        found = self._same.copy()
        for number, kind, below in self._gaps:
            found[number] = (kind, below.filled(values) if below else next(values))
        return found


class _Spelled(dict[bytes, int]):
    """The integers by their bytes; it keeps those of up to two, sixteen thousand at most."""

    def __missing__(self, spelled: bytes) -> int:
        value, _ = integer_at(spelled, 0)
        if len(spelled) <= 2:
            self[spelled] = value
        return value


_SPELLED = _Spelled()


def _without(struct: Struct, ignored: frozenset[Path], path: Path = ()) -> Struct:
    return {
        number: (kind, _without(value, ignored, (*path, number)) if kind == STRUCT else value)
        for number, (kind, value) in struct.items()
        if (*path, number) not in ignored
    }
