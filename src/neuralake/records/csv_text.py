"""Columns of CSV text become the declared types: as strict as JSON, by the same definition.

Texts are read as `scalars` reads the JSON value that they stand for: numbers are JSON numbers
(leading zeros and a plus sign are allowed: clocks and ids are written so), booleans are `true` or
`false` in any case, NaN and infinity have their usual names, lists and structs are JSON. Arrow
converts whole columns where a pattern shows that it reads the same; otherwise values are read one
by one, and the first that does not fit is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, DecimalException
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import InvalidRows
from neuralake.records.columns import Doubt, binaries, dates, timestamps
from neuralake.records.rows import value_reader
from neuralake.records.scalars import Misfit, parse_json

__all__ = ["typed_column"]

_PLAIN_INTEGER = r"^-?[0-9]{1,18}$"
_PLAIN_NUMBER = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"
_NUMBER = re.compile(r"([+-]?)0*((?:\d|\.\d)[\d.]*(?:[eE][+-]?\d+)?)", re.ASCII)
_NAMES = {
    "nan": "NaN",
    "inf": "Infinity",
    "+inf": "Infinity",
    "-inf": "-Infinity",
    "infinity": "Infinity",
    "+infinity": "Infinity",
    "-infinity": "-Infinity",
}


def typed_column(texts: pa.Array, field: pa.Field, *, first_row: int, name: str) -> pa.Array:
    """`texts` (strings, null where there is no value) as `field.type`.

    Args:
        first_row: number of the first row in errors.

    Raises:
        InvalidRows: with `row`, `column` and `reason`.
    """
    if texts.null_count and not field.nullable:
        row = first_row + pc.index(pc.is_null(texts), True).as_py()
        raise _invalid(Misfit("it is not nullable, but the row has no value"), row, field, name)
    try:
        column = _at_once(texts, field.type)
    except (Doubt, pa.ArrowException, ValueError):
        column = None
    return column if column is not None else _one_by_one(texts, field, first_row, name)


def _at_once(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    types = pa.types
    if types.is_string(kind):
        return texts
    if types.is_integer(kind) and _all_match(texts, _PLAIN_INTEGER):
        return texts.cast(kind)
    if kind == pa.float64() and _all_match(texts, _PLAIN_NUMBER):
        return texts.cast(kind)
    if kind == pa.float32() and _all_match(texts, _PLAIN_NUMBER):
        return texts.cast(pa.float64()).cast(kind, safe=False)
    if types.is_timestamp(kind):
        return timestamps(texts, kind)
    if types.is_date(kind):
        return dates(texts)
    if types.is_binary(kind):
        return binaries(texts)
    return None


def _all_match(texts: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(texts, pattern)).as_py() is not False


def _one_by_one(texts: pa.Array, field: pa.Field, first_row: int, name: str) -> pa.Array:
    meant, read = _meaning(field.type), value_reader(field.type)
    values = []
    for row, text in enumerate(texts.to_pylist(), first_row):
        try:
            values.append(None if text is None else read(meant(text)))
        except Misfit as misfit:
            raise _invalid(misfit, row, field, name) from None
    return pa.array(values, type=field.type)


def _meaning(kind: pa.DataType) -> Callable[[str], Any]:
    """What turns a CSV text into the JSON value that it stands for."""
    types = pa.types
    if types.is_nested(kind):
        return _json
    if types.is_boolean(kind):
        return _boolean
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _number
    return str


def _json(text: str) -> Any:
    value, end = parse_json(text)
    if end < len(text):
        raise Misfit(f"not JSON: there is more after the value, at character {end}")
    return value


def _boolean(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


def _number(text: str) -> int | Decimal | str:
    """The number, or the text as it is: the reader of the type says what it expected."""
    text = text.strip(" ")
    if not (match := _NUMBER.fullmatch(text)):
        return _NAMES.get(text.lower(), text)
    try:
        value = Decimal(match[1] + match[2])
    except DecimalException:
        return text
    return value


def _invalid(misfit: Misfit, row: int, field: pa.Field, name: str) -> InvalidRows:
    found = misfit.inside(field.name)
    return InvalidRows(
        f"Row {row}, column {found.path!r}, does not fit table {name!r}: {found.reason}.",
        row=row,
        column=found.path,
        reason=found.reason,
    )
