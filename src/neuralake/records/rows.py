"""Rows of parsed JSON become an Arrow table of the declared schema, or an error that says where.

This is the exact path: slow (some 50,000 rows a second), and the last word on what is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import pyarrow as pa

from neuralake.errors import InvalidRows, UsageError, suggestion
from neuralake.records.dropped import Dropped
from neuralake.records.evolve import text_of
from neuralake.records.row_limit import leaves
from neuralake.records.scalars import Misfit, after_space, leaf_reader, parse_json

__all__ = ["Row", "RowReader", "malformed", "value_reader"]

_CELLS_AT_ONCE = 500_000

Reader = Callable[[Any], Any]
Row = dict[str, Any]
"""A row that fits: every column of the schema, with values as Arrow takes them."""


class RowReader:
    """Reads rows of one table. Immutable; use it from any thread."""

    def __init__(
        self,
        schema: pa.Schema,
        *,
        name: str = "table",
        drops: bool = False,
        loose: Collection[str] = (),
        ignores_null: bool = False,
    ) -> None:
        """Make a reader.

        Args:
            drops: columns that the schema has not are left out, instead of being errors.
            loose: columns of texts that take numbers and booleans, too, as they are written.
            ignores_null: a column that the schema has not may be null.
        """
        self._struct = pa.struct(list(schema))
        self._name = name
        self._read = _object_reader(list(schema), kind="column", loose=loose)
        self._known = frozenset(schema.names) if drops or ignores_null else None
        self._drops = drops
        # Rows of Python's take ten times what they take in Arrow: of wide tables, few at a time.
        self._rows_at_once = max(1, _CELLS_AT_ONCE // leaves(self._struct))

    def texts(
        self, texts: Iterable[str], *, first_row: int = 0, dropped: Dropped | None = None
    ) -> pa.Table:
        """The rows whose JSON texts are `texts`; `first_row` is the number of the first.

        Raises:
            InvalidRows: with `row`, `column` (dotted below structs, `[n]` in lists) and `reason`.
            UsageError: a text is not JSON; with `row` and `reason`.
        """
        return self._tables(
            self.row(_parsed(text, row), row, dropped=dropped)
            for row, text in enumerate(texts, first_row)
        )

    def stream(
        self,
        text: str,
        *,
        first_row: int = 0,
        dropped: Dropped | None = None,
        check: Callable[[int], None] | None = None,
    ) -> pa.Table:
        """The rows that follow one another in `text`; errors as `texts`, the first one first.

        Args:
            check: is told the number of each row before it is made, and may raise.
        """

        def rows() -> Iterator[Row]:
            at, row = after_space(text), first_row
            while at < len(text):
                try:
                    value, at = parse_json(text, at)
                except Misfit as misfit:
                    raise malformed(misfit, row=row) from None
                if check is not None:
                    check(row)
                yield self.row(value, row, dropped=dropped)
                row += 1

        return self._tables(rows())

    def values(self, values: Iterable[Any], *, dropped: Dropped | None = None) -> pa.Table:
        """The rows of `values`, as `scalars.parse_json` reads them; errors as `texts`."""
        return self._tables(
            self.row(value, row, dropped=dropped) for row, value in enumerate(values)
        )

    def row(self, value: Any, row: int, *, dropped: Dropped | None = None) -> Row:
        """The row that the JSON `value` is; `row` is its number. Errors as `texts`.

        Args:
            dropped: counts what is left out.
        """
        try:
            if not isinstance(value, dict):
                raise Misfit("a row is a JSON object of column names and values")
            known = self._known
            if known is not None and not known.issuperset(value):
                if not self._drops:
                    value = {n: v for n, v in value.items() if v is not None or n in known}
                else:
                    if dropped is not None:
                        dropped.add(name for name in value if name not in known)
                    value = {name: inner for name, inner in value.items() if name in known}
            fields: dict[str, Any] = self._read(value)
            return fields
        except Misfit as misfit:
            raise _invalid(misfit, row=row, name=self._name) from None

    def _tables(self, rows: Iterator[Row]) -> pa.Table:
        tables = []
        while some := list(islice(rows, self._rows_at_once)):
            tables.append(self.table(some))
        return pa.concat_tables(tables) if tables else self.table([])

    def table(self, rows: Sequence[Row]) -> pa.Table:
        """Rows that `row` gave, as a table of the declared schema."""
        # As one array of structs: four times quicker for a single row than column by column.
        structs = pa.array(rows, type=self._struct)
        return pa.Table.from_batches([pa.RecordBatch.from_struct_array(structs)])


def malformed(misfit: Misfit, *, row: int | None) -> UsageError:
    """The error for a row (None: a whole body) that cannot be read, whatever the table."""
    what = "The body" if row is None else f"Row {row}"
    where = f", column {misfit.path!r}," if misfit.path else ""
    return UsageError(
        f"{what}{where} cannot be read: {misfit.reason}.",
        row=row,
        column=misfit.path or None,
        reason=misfit.reason,
    )


def _invalid(misfit: Misfit, *, row: int, name: str) -> InvalidRows:
    where = f", column {misfit.path!r}," if misfit.path else ""
    return InvalidRows(
        f"Row {row}{where} does not fit table {name!r}: {misfit.reason}.",
        row=row,
        column=misfit.path or None,
        reason=misfit.reason,
    )


def _parsed(text: str, row: int) -> Any:
    try:
        return parse_json(text)[0]
    except Misfit as misfit:
        raise malformed(misfit, row=row) from None


def _object_reader(fields: list[pa.Field], *, kind: str, loose: Collection[str] = ()) -> Reader:
    readers = [
        (
            field.name,
            _loose_reader(field.type) if field.name in loose else value_reader(field.type),
            field.nullable,
        )
        for field in fields
    ]
    names = [field.name for field in fields]
    known = frozenset(names)

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Misfit("expected an object")
        if not known.issuperset(value):
            name = next(name for name in value if name not in known)
            near = suggestion(name, names).rstrip("?").replace(" Did", "; did")
            raise Misfit(f"there is no such {kind}{near}", name)
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


def _loose_reader(kind: pa.DataType) -> Reader:
    read = value_reader(kind)
    if not pa.types.is_string(kind):
        return read

    def read_loosely(value: Any) -> Any:
        return read(text_of(value) if isinstance(value, bool | int | Decimal) else value)

    return read_loosely


def _list_reader(item: pa.Field) -> Reader:
    reader = value_reader(item.type)

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


def value_reader(kind: pa.DataType) -> Reader:
    """The function that turns a parsed JSON value, not null, into what Arrow takes as `kind`."""
    if pa.types.is_struct(kind):
        return _object_reader(list(kind), kind="field")
    if pa.types.is_list(kind):
        return _list_reader(kind.value_field)
    return leaf_reader(kind)
