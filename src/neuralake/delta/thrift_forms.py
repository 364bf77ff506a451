"""Thrift structs that are spelled alike: what they have in common is compared, not decoded.

The footers of a writer's files differ in a few numbers and bounds, in places that are known. What
lies between these is the same bytes in each of them, and the same bytes are the same fields. So one
struct is decoded field by field, and teaches what to compare the next ones with.
"""

from __future__ import annotations

import re
from collections.abc import Collection
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
    decode,
    encode,
    field_header,
    integer_at,
    list_header,
    value_bytes,
)

__all__ = ["Form", "Path"]

Path = tuple[int, ...]
"""Field numbers from the outermost struct inwards. What is in a list has none."""

_INTEGER = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_INTEGERS = {I16, I32, I64}
_IN_LIST = 0


class Form:
    """A struct with gaps, by which others of its spelling are read.

    Args:
        spelled: the struct's bytes.
        variable: the integers and binaries that are read.
        ignored: fields that may differ, too, and are passed over.
        is_fixed: the binaries have the lengths that they have here, as bounds of numbers do; then
            one comparison reads the struct. Otherwise their lengths are read, as those of texts.

    Raises:
        ValueError: damaged, or not spelled as `thrift.encode` does, and so no pattern for others.
    """

    def __init__(
        self,
        spelled: bytes,
        variable: Collection[Path],
        ignored: Collection[Path] = (),
        *,
        is_fixed: bool,
    ) -> None:
        struct = decode(spelled)
        if encode(struct) != spelled:
            raise ValueError("The Thrift structure is spelled otherwise than ours are.")
        self._variable, self._ignored = frozenset(variable), frozenset(ignored)
        self._is_fixed = is_fixed
        self.paths: list[Path] = []
        """Of what is read, in order."""
        self._integers: list[bool] = []
        self._pattern = b""
        self._patterns: list[re.Pattern[bytes]] = []
        # Whether the binary after each pattern but the last is read.
        self._is_kept: list[bool] = []
        self._learn_struct(struct, (), is_kept=True)
        self._end_pattern()
        self._first, *after = self._patterns
        self._after_binaries = [*zip(self._is_kept, after, strict=True)]

    def read(self, data: bytes, at: int) -> tuple[list[Any], int] | None:
        """What differs in the struct at `at`, and where it ends; None: it is of another form."""
        found = self._first.match(data, at)
        if found is None:
            return None
        values: list[Any] = [*found.groups()]
        for is_kept, pattern in self._after_binaries:
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
        return told, found.end()

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
        elif is_open and (kind in _INTEGERS or kind == BINARY):
            if is_kept:
                self.paths.append(path)
                self._integers.append(kind != BINARY)
            self._learn_gap(kind, value, is_kept=is_kept)
        else:
            self._pattern += re.escape(value_bytes(kind, value))

    def _learn_gap(self, kind: int, value: Any, *, is_kept: bool) -> None:
        if kind != BINARY:
            self._pattern += b"(" + _INTEGER + b")" if is_kept else _INTEGER
        elif self._is_fixed:
            length = value_bytes(BINARY, value)[: -len(value) or None]
            gap = b".{%d}" % len(value)
            self._pattern += re.escape(length) + (b"(" + gap + b")" if is_kept else gap)
        else:
            self._end_pattern()
            self._is_kept.append(is_kept)

    def _end_pattern(self) -> None:
        self._patterns.append(re.compile(self._pattern, re.DOTALL))
        self._pattern = b""


class _Spelled(dict[bytes, int]):
    """The integers by their bytes; it keeps those of up to two, sixteen thousand at most."""

    def __missing__(self, spelled: bytes) -> int:
        value, _ = integer_at(spelled, 0)
        if len(spelled) <= 2:
            self[spelled] = value
        return value


_SPELLED = _Spelled()
