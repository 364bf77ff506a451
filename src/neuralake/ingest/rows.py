"""Rows of parsed JSON become an Arrow table of the declared schema, or an error that says where.

This is the exact path: slow (some 50,000 rows a second), and the last word on what is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from neuralake.errors import InvalidRows, UsageError, suggestion
from neuralake.ingest.scalars import Misfit, leaf_reader, parse_json

__all__ = ["RowReader"]

Reader = Callable[[Any], Any]


class RowReader:
    """Reads rows of one table. Immutable; use it from any thread."""

    def __init__(self, schema: pa.Schema, *, name: str = "table") -> None:
        self._schema = schema
        self._name = name
        self._read = _object_reader(list(schema), kind="column")

    def table(self, texts: Iterable[str], *, first_row: int = 0) -> pa.Table:
        """The rows whose JSON texts are `texts`; `first_row` is the number of the first.

        Raises:
            InvalidRows: with `row`, `column` (dotted below structs, `[n]` in lists) and `reason`.
            UsageError: a text is not JSON; with `row` and `reason`.
        """
        rows = [self._row(text, row) for row, text in enumerate(texts, first_row)]
        return self._columns(rows)

    def _row(self, text: str, row: int) -> dict[str, Any]:
        try:
            value = parse_json(text)
        except Misfit as misfit:
            raise malformed(misfit, row=row) from None
        try:
            if not isinstance(value, dict):
                raise Misfit("a row is a JSON object of column names and values")
            return self._read(value)  # type: ignore[no-any-return]
        except Misfit as misfit:
            raise invalid(misfit, row=row, name=self._name) from None

    def _columns(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        columns = [
            pa.array([row[field.name] for row in rows], type=field.type) for field in self._schema
        ]
        return pa.table(columns, schema=self._schema)


def invalid(misfit: Misfit, *, row: int, name: str) -> InvalidRows:
    """The error for a value of `row` that does not fit table `name`."""
    where = f", column {misfit.path!r}" if misfit.path else ""
    return InvalidRows(
        f"Row {row}{where} does not fit table {name!r}: {misfit.reason}.",
        row=row,
        column=misfit.path or None,
        reason=misfit.reason,
    )


def malformed(misfit: Misfit, *, row: int) -> UsageError:
    """The error for a row that cannot be read at all, so that its columns are not known."""
    return UsageError(
        f"Row {row} cannot be read: {misfit.reason}.",
        row=row,
        column=misfit.path or None,
        reason=misfit.reason,
    )


def _object_reader(fields: list[pa.Field], *, kind: str) -> Reader:
    readers = [(field.name, _reader(field.type), field.nullable) for field in fields]
    names = [field.name for field in fields]
    known = frozenset(names)

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Misfit("expected an object")
        if not known.issuperset(value):
            name = next(name for name in value if name not in known)
            raise Misfit(f"there is no such {kind}.{suggestion(name, names)}".rstrip("."), name)
        found: dict[str, Any] = {}
        for name, reader, nullable in readers:
            inner = value.get(name)
            if inner is None:
                if not nullable:
                    raise Misfit("it is not nullable, but the row has no value", name)
                found[name] = None
                continue
            try:
                found[name] = reader(inner)
            except Misfit as misfit:
                raise misfit.inside(name) from None
        return found

    return read


def _list_reader(item: pa.Field) -> Reader:
    reader = _reader(item.type)

    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Misfit("expected an array")
        found: list[Any] = []
        for index, inner in enumerate(value):
            if inner is None:
                if not item.nullable:
                    raise Misfit("null in an array whose elements are not nullable", f"[{index}]")
                found.append(None)
                continue
            try:
                found.append(reader(inner))
            except Misfit as misfit:
                raise misfit.inside(f"[{index}]") from None
        return found

    return read


def _reader(kind: pa.DataType) -> Reader:
    if pa.types.is_struct(kind):
        return _object_reader(list(kind), kind="field")
    if pa.types.is_list(kind):
        return _list_reader(kind.value_field)
    return leaf_reader(kind)
